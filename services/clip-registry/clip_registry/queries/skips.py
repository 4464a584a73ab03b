"""Highlights that became no clip: remembered until :mod:`clip_registry.timers.trimming` forgets them."""

from dataclasses import asdict

from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.engine import transaction
from clip_registry.domain.clips import Skip
from clip_registry.queries import statements as sql


class Skips:
    """Skipped highlights in PostgreSQL, the newest skip of each."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(self, skip: Skip) -> None:
        """Remember a skip. One older than what is known of its highlight, or the same, changes nothing.

        Raises:
            TransientError: the database is away.
            PermanentError: it refuses the data.
        """
        async with transaction(self._engine) as connection:
            await connection.execute(sql.PUT_SKIP, asdict(skip))
