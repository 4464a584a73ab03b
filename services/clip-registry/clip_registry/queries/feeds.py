"""Feeds: an account's published clips under an address of their own, for as long as the account wants it."""

import secrets

from sqlalchemy import (
    Text,
    bindparam,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from clip_registry.database.rows import clip_columns, clip_record
from clip_registry.database.tables import (
    PUBLISHED,
    feeds,
)
from clip_registry.database.tables import generated_clips as clips
from clip_registry.database.transactions import for_queries, reading, transaction
from clip_registry.queries.statements import ACCOUNT, LIMIT, OF_ACCOUNT
from clip_shared.contracts.registry_api import Feed, FeedPage

SLUG_BYTES = 16
MAX_CLIPS = 50

# An existing row is updated without a change, so that RETURNING has it.
OPEN_FEED = (
    insert(feeds)
    .values(twitch_account_id=ACCOUNT, slug=bindparam("slug", type_=Text), created_at=func.now())
    .on_conflict_do_update(
        index_elements=[feeds.c.twitch_account_id], set_={"twitch_account_id": feeds.c.twitch_account_id}
    )
    .returning(feeds.c.slug, feeds.c.created_at)
)
CLOSE_FEED = delete(feeds).where(feeds.c.twitch_account_id == ACCOUNT)
FEED_OF = select(feeds.c.slug, feeds.c.created_at).where(feeds.c.twitch_account_id == ACCOUNT)
FEED = select(feeds).where(feeds.c.slug == bindparam("slug", type_=Text))
PUBLISHED_CLIPS = (
    select(*clip_columns(clips))
    .where(
        PUBLISHED, OF_ACCOUNT, or_(clips.c.published_until.is_(None), clips.c.published_until > func.now())
    )
    .order_by(clips.c.published_at.desc(), clips.c.clip_id.desc())
    .limit(LIMIT)
)


class Feeds:
    """Feeds in PostgreSQL. Every method raises TransientError when the database cannot be used."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine, self._reader = engine, for_queries(engine)

    async def of(self, account_id: str) -> Feed | None:
        """Return an account's feed; None: it is switched off."""
        async with reading(self._reader) as connection:
            row = (await connection.execute(FEED_OF, {"account": account_id})).mappings().one_or_none()
        return Feed.model_validate(dict(row)) if row else None

    async def open(self, account_id: str) -> Feed:
        """Switch an account's feed on, under a new address; a feed that is on keeps its address."""
        parameters = {"account": account_id, "slug": secrets.token_urlsafe(SLUG_BYTES)}
        async with transaction(self._engine) as connection:
            row = (await connection.execute(OPEN_FEED, parameters)).mappings().one()
        return Feed.model_validate(dict(row))

    async def close(self, account_id: str) -> None:
        """Switch an account's feed off. Its address is never given out again."""
        async with transaction(self._engine) as connection:
            await connection.execute(CLOSE_FEED, {"account": account_id})

    async def page(self, slug: str) -> FeedPage | None:
        """Return the clips that a feed shows, at most ``MAX_CLIPS``; None: no feed has this address now."""
        async with reading(self._reader) as connection:
            feed = (await connection.execute(FEED, {"slug": slug})).one_or_none()
            if feed is None:
                return None
            parameters = {"account": feed.twitch_account_id, "limit": MAX_CLIPS}
            rows = await connection.execute(PUBLISHED_CLIPS, parameters)
            clips = tuple(clip_record(row) for row in rows.mappings())
        updated_at = max([feed.created_at, *(clip.updated_at for clip in clips)])
        return FeedPage(items=clips, updated_at=updated_at)
