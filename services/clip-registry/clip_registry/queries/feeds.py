"""Feeds: addresses at which an account's published clips can be followed, while their owner wants it."""

import secrets

from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.clips.records import record_of
from clip_registry.database.engine import for_queries, reading, transaction
from clip_registry.queries import statements as sql
from clip_shared.contracts.registry_api import Feed, FeedPage

SLUG_BYTES = 16
MAX_CLIPS = 50


class Feeds:
    """Feeds in PostgreSQL. Every method raises TransientError when the database is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine, self._reader = engine, for_queries(engine)

    async def of(self, account_id: str) -> Feed | None:
        """An account's feed; None: it is switched off."""
        async with reading(self._reader) as connection:
            row = (await connection.execute(sql.FEED_OF, {"account": account_id})).mappings().one_or_none()
        return Feed.model_validate(dict(row)) if row else None

    async def open(self, account_id: str) -> Feed:
        """Switch an account's feed on; one that is on stays where it is."""
        parameters = {"account": account_id, "slug": secrets.token_urlsafe(SLUG_BYTES)}
        async with transaction(self._engine) as connection:
            row = (await connection.execute(sql.OPEN_FEED, parameters)).mappings().one()
        return Feed.model_validate(dict(row))

    async def close(self, account_id: str) -> None:
        """Switch an account's feed off. Its address is never given out again."""
        async with transaction(self._engine) as connection:
            await connection.execute(sql.CLOSE_FEED, {"account": account_id})

    async def page(self, slug: str) -> FeedPage | None:
        """What the feed at an address shows; None: there is none, or not any more."""
        async with reading(self._reader) as connection:
            feed = (await connection.execute(sql.FEED, {"slug": slug})).one_or_none()
            if feed is None:
                return None
            parameters = {"account": feed.twitch_account_id, "limit": MAX_CLIPS}
            rows = await connection.execute(sql.PUBLISHED_CLIPS, parameters)
            clips = tuple(record_of(row) for row in rows.mappings())
        updated_at = max([feed.created_at, *(clip.updated_at for clip in clips)])
        return FeedPage(items=clips, updated_at=updated_at)
