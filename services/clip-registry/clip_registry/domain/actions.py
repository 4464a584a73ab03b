"""What an account may do with a clip, and what that makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from clip_registry.domain.clips import VISIBLE, Clip, PublicationOptions
from clip_shared.contracts.registry_api import ClipAction, ClipStatus


@dataclass(frozen=True, kw_only=True)
class ActionRequest:
    """An action on a clip that an account asks for.

    ``title``: to rename it. ``options``: to publish it; ``republishes``: they also change a clip that is
    public already.
    """

    action: ClipAction
    account_id: str
    title: str | None = None
    options: PublicationOptions | None = None
    republishes: bool = True


@dataclass(frozen=True)
class Transition:
    """The statuses that an action starts from and leads to, and those in which it changes nothing.

    ``target`` None: the status of the clip, or that from before its deletion.
    """

    sources: frozenset[ClipStatus]
    target: ClipStatus | None
    satisfied_in: frozenset[ClipStatus]


def _transition(
    sources: set[ClipStatus], target: ClipStatus | None, satisfied_in: set[ClipStatus] | None = None
) -> Transition:
    return Transition(frozenset(sources), target, frozenset(satisfied_in or ()))


TRANSITIONS: Mapping[ClipAction, Transition] = {
    ClipAction.KEEP: _transition(
        {ClipStatus.AVAILABLE}, ClipStatus.KEPT, satisfied_in={ClipStatus.KEPT, ClipStatus.PUBLISHED}
    ),
    # A published clip must be unpublished first: unkeep never takes a public page away.
    ClipAction.UNKEEP: _transition(
        {ClipStatus.KEPT}, ClipStatus.AVAILABLE, satisfied_in={ClipStatus.AVAILABLE}
    ),
    ClipAction.PUBLISH: _transition(set(VISIBLE), ClipStatus.PUBLISHED),
    ClipAction.UNPUBLISH: _transition(
        {ClipStatus.PUBLISHED}, ClipStatus.KEPT, satisfied_in={ClipStatus.AVAILABLE, ClipStatus.KEPT}
    ),
    ClipAction.DELETE: _transition(set(VISIBLE), ClipStatus.DELETED, satisfied_in={ClipStatus.DELETED}),
    ClipAction.RESTORE: _transition({ClipStatus.DELETED}, None, satisfied_in=set(VISIBLE)),
    ClipAction.RENAME: _transition(set(VISIBLE), None),
}
# The actions that may make a clip available, and so ephemeral, again.
MAY_MAKE_EPHEMERAL = (ClipAction.UNKEEP, ClipAction.RESTORE)


class ActionOutcome(StrEnum):
    """What became of an action that an account asked for."""

    DONE = "done"
    UNCHANGED = "unchanged"  # the clip was so already
    UNKNOWN = "unknown"  # no such clip, or it is purged
    NOT_OWNER = "not_owner"
    NOT_ALLOWED = "not_allowed"  # not in this status
    FULL = "full"  # the account has all its ephemeral clips: one of them would expire at once


def outcome_of_action(request: ActionRequest, clip: Clip | None, *, full: bool = False) -> ActionOutcome:
    """Decide about an action, given the clip (None: no such clip). An expired clip can still be kept.

    ``full``: the account has all the ephemeral clips that it may have.
    """
    if clip is None or clip.status is ClipStatus.PURGED:
        return ActionOutcome.UNKNOWN
    if clip.twitch_account_id != request.account_id:
        return ActionOutcome.NOT_OWNER
    transition = TRANSITIONS[request.action]
    if clip.status in transition.satisfied_in:
        return ActionOutcome.UNCHANGED
    if clip.status not in transition.sources:
        return ActionOutcome.NOT_ALLOWED
    if _is_so_already(request, clip):
        return ActionOutcome.UNCHANGED
    target = transition.target or clip.deleted_from or clip.status
    becomes_ephemeral = target is ClipStatus.AVAILABLE and clip.status is not ClipStatus.AVAILABLE
    return ActionOutcome.FULL if full and becomes_ephemeral else ActionOutcome.DONE


def _is_so_already(request: ActionRequest, clip: Clip) -> bool:
    """Whether the action, which the status allows, would change nothing."""
    if request.action is ClipAction.RENAME:
        return request.title == clip.title
    if request.action is ClipAction.PUBLISH and clip.status is ClipStatus.PUBLISHED:
        return not request.republishes or request.options == clip.options
    return False
