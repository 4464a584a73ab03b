"""Events that Kafka refused and the relay moved to ``outbox_dlq``: list them, and put them back."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.tables import outbox, outbox_dlq
from clip_registry.database.transactions import transaction

_COPIED = ("queue", "payload", "headers")

LIST = (
    select(
        outbox_dlq.c.queue,
        func.count().label("number"),
        func.min(outbox_dlq.c.failed_at).label("since"),
        func.max(outbox_dlq.c.last_exception).label("reason"),
    )
    .group_by(outbox_dlq.c.queue)
    .order_by(outbox_dlq.c.queue)
)
_oldest = select(outbox_dlq.c.id).order_by(outbox_dlq.c.id)
_taken = delete(outbox_dlq).returning(*(outbox_dlq.c[name] for name in ("id", *_COPIED)))


@dataclass(frozen=True)
class RefusedByTopic:
    """The refused events of a topic: their number, the time of the first refusal, and a reason."""

    topic: str
    number: int
    since: datetime
    reason: str | None


async def find(engine: AsyncEngine) -> list[RefusedByTopic]:
    """Return the refused events by topic.

    Raises:
        TransientError: the database cannot be used.
    """
    async with transaction(engine) as connection:
        return [
            RefusedByTopic(row.queue, row.number, row.since, row.reason)
            for row in await connection.execute(LIST)
        ]


async def replay(engine: AsyncEngine, *, limit: int) -> int:
    """Put refused events back into the outbox, the oldest first; the relay sends them again.

    Returns:
        the number of events that were put back, at most ``limit``.

    Raises:
        TransientError: the database cannot be used; no event was moved.
    """
    # SKIP LOCKED, so that two operators at the same time move each event once.
    chosen = _oldest.limit(limit).with_for_update(skip_locked=True)
    taken = _taken.where(outbox_dlq.c.id.in_(chosen.scalar_subquery())).cte("taken")
    columns = [taken.c[name] for name in _COPIED]
    move = insert(outbox).from_select(list(_COPIED), select(*columns).order_by(taken.c.id))
    async with transaction(engine) as connection:
        return (await connection.execute(move)).rowcount
