"""What an account may do with a clip, and what that makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from clip_registry.domain.clips import VISIBLE, Clip, PublicationOptions
from clip_shared.contracts.registry_api import ClipAction, ClipStatus


@dataclass(frozen=True, kw_only=True)
class ActionRequest:
    """What an account asks of a clip.

    ``title``: of a renaming. ``options``: of a publishing; ``republishes``: they are meant for a clip that
    is public already, too.
    """

    action: ClipAction
    account_id: str
    title: str | None = None
    options: PublicationOptions | None = None
    republishes: bool = True


@dataclass(frozen=True)
class Transition:
    """An action's way: from which statuses to which, and in which it has nothing left to do.

    ``target`` None: what the clip is, or was before it was deleted.
    """

    sources: frozenset[ClipStatus]
    target: ClipStatus | None
    satisfied_in: frozenset[ClipStatus]


def _way(
    sources: set[ClipStatus], target: ClipStatus | None, satisfied_in: set[ClipStatus] | None = None
) -> Transition:
    return Transition(frozenset(sources), target, frozenset(satisfied_in or ()))


TRANSITIONS: Mapping[ClipAction, Transition] = {
    ClipAction.KEEP: _way(
        {ClipStatus.AVAILABLE}, ClipStatus.KEPT, satisfied_in={ClipStatus.KEPT, ClipStatus.PUBLISHED}
    ),
    # A published clip must be unpublished first: nobody loses a public page by letting go of a clip.
    ClipAction.UNKEEP: _way({ClipStatus.KEPT}, ClipStatus.AVAILABLE, satisfied_in={ClipStatus.AVAILABLE}),
    ClipAction.PUBLISH: _way(set(VISIBLE), ClipStatus.PUBLISHED),
    ClipAction.UNPUBLISH: _way(
        {ClipStatus.PUBLISHED}, ClipStatus.KEPT, satisfied_in={ClipStatus.AVAILABLE, ClipStatus.KEPT}
    ),
    ClipAction.DELETE: _way(set(VISIBLE), ClipStatus.DELETED, satisfied_in={ClipStatus.DELETED}),
    ClipAction.RESTORE: _way({ClipStatus.DELETED}, None, satisfied_in=set(VISIBLE)),
    ClipAction.RENAME: _way(set(VISIBLE), None),
}
# What may let a clip become ephemeral that was not.
MAY_MAKE_EPHEMERAL = (ClipAction.UNKEEP, ClipAction.RESTORE)


class ActionOutcome(StrEnum):
    """What an owner is told."""

    DONE = "done"
    UNCHANGED = "unchanged"  # it already was as asked
    UNKNOWN = "unknown"  # no such clip, or purged
    NOT_OWNER = "not_owner"
    NOT_ALLOWED = "not_allowed"  # not from this status
    FULL = "full"  # the clip would be an ephemeral one too many: it, or another, would expire at once


def outcome_of_action(wish: ActionRequest, clip: Clip | None, *, full: bool = False) -> ActionOutcome:
    """Decide about an account's wish. Expired but not yet purged is still in time.

    ``full``: the account has all the ephemeral clips that it may have.
    """
    if clip is None or clip.status is ClipStatus.PURGED:
        return ActionOutcome.UNKNOWN
    if clip.twitch_account_id != wish.account_id:
        return ActionOutcome.NOT_OWNER
    way = TRANSITIONS[wish.action]
    if clip.status in way.satisfied_in:
        return ActionOutcome.UNCHANGED
    if clip.status not in way.sources:
        return ActionOutcome.NOT_ALLOWED
    if _is_so_already(wish, clip):
        return ActionOutcome.UNCHANGED
    target = way.target or clip.deleted_from or clip.status
    becomes_ephemeral = target is ClipStatus.AVAILABLE and clip.status is not ClipStatus.AVAILABLE
    return ActionOutcome.FULL if full and becomes_ephemeral else ActionOutcome.DONE


def _is_so_already(wish: ActionRequest, clip: Clip) -> bool:
    """Whether nothing would change, though the clip's status allows the action."""
    if wish.action is ClipAction.RENAME:
        return wish.title == clip.title
    if wish.action is ClipAction.PUBLISH and clip.status is ClipStatus.PUBLISHED:
        return not wish.republishes or wish.options == clip.options
    return False
