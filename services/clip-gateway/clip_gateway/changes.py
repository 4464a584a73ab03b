"""Changes that owners make to their clips: one way for the JSON API and for the pages."""

from uuid import UUID

import structlog

from clip_gateway.domain import owned
from clip_gateway.parts import GatewayParts
from clip_shared.contracts.registry_api import (
    Actor,
    BatchOutcome,
    BatchRequest,
    BatchResult,
    ClipAction,
    ClipRecord,
)

log = structlog.get_logger()


async def change_clip(parts: GatewayParts, action: ClipAction, clip_id: UUID, request: Actor) -> ClipRecord:
    """Apply an action to one clip of the account in ``request``, and return the changed clip.

    Raises:
        Refused: the clip is unknown, purged or another account's; or its status does not allow the action.
        TransientError: the registry does not answer.
    """
    # The registry checks the owner as well, in the transaction of the change. Two independent checks: a
    # defect in one of them does not open another account's clip.
    owned(await parts.registry.get(clip_id), request.account_id)
    clip = owned(await parts.registry.act(action, clip_id, request), request.account_id)
    parts.metrics.acted(action)
    log.info("clip changed", clip_id=str(clip_id), action=action, status=clip.status)
    return clip


async def change_clips(parts: GatewayParts, request: BatchRequest) -> tuple[BatchResult, ...]:
    """Apply one action to several clips of an account. Return a result for every clip, in the order asked.

    A result may hold a clip of another account: callers show only what ``owned_or_none`` lets through.

    Raises:
        TransientError: the registry does not answer.
    """
    results = (await parts.registry.act_on_many(request)).results
    done = sum(each.outcome is BatchOutcome.DONE for each in results)
    parts.metrics.acted(request.action, done)
    log.info("clips changed", action=request.action, asked=len(request.clip_ids), done=done)
    return results
