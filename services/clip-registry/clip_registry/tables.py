"""The tables of the registry, as SQLAlchemy Core sees them.

Migrations create them (``clip-registry migrate``); a test fails when the two drift apart. The CHECK
constraints say what each status implies, so that no bug and no hand can store a clip that is two things.
"""

from faststream_outbox import make_dlq_table, make_outbox_table
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    literal_column,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

generated_clips = Table(
    "generated_clips",
    metadata,
    Column("clip_id", Uuid, primary_key=True),
    Column("stream_highlight_id", String(64), nullable=False, unique=True),
    Column("twitch_account_id", String(64), nullable=False),
    Column("source_vod_id", String(64), nullable=False),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("score", Double),
    Column("bucket", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("poster_key", Text),
    Column("content_type", Text, nullable=False),
    Column("file_size_bytes", BigInteger, nullable=False),
    Column("duration_seconds", Double, nullable=False),
    Column("cut_receipt", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("kept_at", DateTime(timezone=True)),
    Column("kept_by", String(64)),
    Column("published_at", DateTime(timezone=True)),
    Column("share_slug", Text, unique=True),
    Column("purged_at", DateTime(timezone=True)),
    # Compared byte by byte, as Python compares it, whatever the database's collation is.
    Column("highlight_event_id", String(64, collation="C"), nullable=False),
    Column("highlight_detected_at", DateTime(timezone=True), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    CheckConstraint(
        "status IN ('available', 'kept', 'published', 'purged')", name="generated_clips_status_known"
    ),
    CheckConstraint(
        "(status IN ('available', 'purged')) = (expires_at IS NOT NULL)", name="generated_clips_expires_at"
    ),
    CheckConstraint(
        "(status IN ('kept', 'published')) = (kept_at IS NOT NULL)", name="generated_clips_kept_at"
    ),
    CheckConstraint("(kept_at IS NULL) = (kept_by IS NULL)", name="generated_clips_kept_by"),
    CheckConstraint(
        "(status = 'published') = (published_at IS NOT NULL)", name="generated_clips_published_at"
    ),
    CheckConstraint("(status = 'published') = (share_slug IS NOT NULL)", name="generated_clips_share_slug"),
    CheckConstraint("(status = 'purged') = (purged_at IS NOT NULL)", name="generated_clips_purged_at"),
    CheckConstraint("version >= 1", name="generated_clips_version"),
    CheckConstraint("file_size_bytes > 0 AND duration_seconds > 0", name="generated_clips_has_content"),
)

_c = generated_clips.c

# Conditions with the status written out: a prepared statement's generic plan can use a partial index only
# when it sees the constant, not a parameter.
AVAILABLE = _c.status == literal_column("'available'")
LIVE = _c.status != literal_column("'purged'")

Index("generated_clips_of_account", _c.twitch_account_id, _c.created_at, _c.clip_id, postgresql_where=LIVE)
Index("generated_clips_due", _c.expires_at, _c.clip_id, postgresql_where=AVAILABLE)
Index("generated_clips_live_status", _c.status, postgresql_where=LIVE)
# An object belongs to at most one clip; a purged clip owns none.
Index("generated_clips_object", _c.object_key, _c.bucket, unique=True, postgresql_where=LIVE)
Index("generated_clips_poster", _c.poster_key, _c.bucket, unique=True, postgresql_where=LIVE)

# Who has been told that clips of theirs expire on a day (UTC). The key makes it once; the day comes first
# so that those in the past are found, and forgotten.
expiry_notices = Table(
    "expiry_notices",
    metadata,
    Column("cohort", Date, primary_key=True),
    Column("twitch_account_id", String(64), primary_key=True),
    Column("noticed_at", DateTime(timezone=True), nullable=False),
)

outbox = make_outbox_table(metadata)
outbox_dlq = make_dlq_table(metadata)
