"""Highlights that became no clip: kept until :mod:`clip_registry.timers.trimming` deletes them."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    bindparam,
    func,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.tables import (
    skipped_highlights,
)
from clip_registry.database.transactions import transaction
from clip_registry.domain.clips import Skip


def _put_skip() -> Any:
    new = insert(skipped_highlights).values(
        skipped_at=func.least(bindparam("skipped_at", type_=DateTime(timezone=True)), func.now())
    )

    def age(columns: Any) -> ColumnElement[Any]:
        return tuple_(columns.highlight_detected_at, columns.highlight_event_id, columns.skipped_at)

    return new.on_conflict_do_update(
        index_elements=[skipped_highlights.c.stream_highlight_id],
        set_={name: new.excluded[name] for name in skipped_highlights.c.keys()},  # noqa: SIM118 - not a dict
        where=age(skipped_highlights.c) < age(new.excluded),
    )


PUT_SKIP = _put_skip()


class Skips:
    """Skipped highlights in PostgreSQL: the newest skip of each highlight."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(self, skip: Skip) -> None:
        """Remember a skip, unless a newer skip of its highlight is known.

        Raises:
            TransientError: the database cannot be used.
            PermanentError: the database refuses the data.
        """
        async with transaction(self._engine) as connection:
            await connection.execute(PUT_SKIP, asdict(skip))
