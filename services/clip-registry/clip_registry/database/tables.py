"""The tables of the registry, as SQLAlchemy Core sees them.

Migrations create them (``clip-registry migrate``); a test fails when the two differ. The CHECK constraints
say what each status implies, so that neither a bug nor an operator can store a clip that contradicts itself.
"""

from faststream_outbox import make_dlq_table, make_outbox_table
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    and_,
    literal_column,
    or_,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

# PostgreSQL's defaults wait for changes of a fifth of the table: of 100 million rows, for weeks of purges.
VACUUM_OFTEN = {
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_insert_scale_factor": 0.01,
    "autovacuum_analyze_scale_factor": 0.01,
}
# Every row is soon deleted: vacuum by the number of changes, as for the outbox.
VACUUM_BY_CHURN = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_insert_scale_factor": 0,
    "autovacuum_vacuum_insert_threshold": 1000,
}

generated_clips = Table(
    "generated_clips",
    metadata,
    Column("clip_id", Uuid, primary_key=True),
    Column("stream_highlight_id", String(64), nullable=False, unique=True),
    Column("twitch_account_id", String(64), nullable=False),
    Column("source_vod_id", String(64), nullable=False),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    # When its owner gave it this title; null: the title is the detector's.
    Column("renamed_at", DateTime(timezone=True)),
    Column("score", Double),
    Column("bucket", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("poster_key", Text),
    Column("content_type", Text, nullable=False),
    Column("file_size_bytes", BigInteger, nullable=False),
    Column("duration_seconds", Double, nullable=False),
    Column("cut_receipt", JSONB, nullable=False),
    # The VOD that it was cut from; null: its cutter was older than this column.
    Column("source", JSONB(none_as_null=True)),
    # With defaults, so that an older registry can insert rows while these columns are there.
    Column("origin", Text, nullable=False, server_default="detector"),
    # Counts the videos that the clip has had.
    Column("revision", Integer, nullable=False, server_default="1"),
    Column("status", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("kept_at", DateTime(timezone=True)),
    Column("kept_by", String(64)),
    Column("published_at", DateTime(timezone=True)),
    Column("share_slug", Text, unique=True),
    Column("published_revision", Integer),
    Column("published_until", DateTime(timezone=True)),
    Column("published_embed", Boolean),
    Column("published_downloadable", Boolean),
    Column("published_indexable", Boolean),
    # The status before the deletion. Until it is purged, a deleted clip keeps what a restore needs.
    Column("deleted_from", Text),
    Column("deleted_at", DateTime(timezone=True)),
    Column("expires_at_before_delete", DateTime(timezone=True)),
    Column("purged_at", DateTime(timezone=True)),
    # Of a clip that is not purged yet: the reason that its purge will have.
    Column("purge_reason", Text),
    # The newest cut that did not replace a clip that its owner kept, published or deleted: a CutOffer.
    Column("offer", JSONB(none_as_null=True)),
    # Compared byte by byte as in Python, not by the database's collation.
    Column("highlight_event_id", String(64, collation="C"), nullable=False),
    Column("highlight_detected_at", DateTime(timezone=True), nullable=False),
    # The newest cuts that the clip has considered, taken or refused: of the detector, and of the owner.
    Column("detector_cut_at", DateTime(timezone=True)),
    Column("detector_cut_id", String(64, collation="C")),
    Column("owner_cut_at", DateTime(timezone=True)),
    Column("owner_cut_id", String(64, collation="C")),
    Column("version", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    CheckConstraint(
        "status IN ('available', 'kept', 'published', 'deleted', 'purged')",
        name="generated_clips_status_known",
    ),
    CheckConstraint("origin IN ('detector', 'owner', 'import')", name="generated_clips_origin_known"),
    CheckConstraint(
        "deleted_from IN ('available', 'kept', 'published')", name="generated_clips_deleted_from_known"
    ),
    CheckConstraint(
        "purge_reason IN ('expired', 'evicted', 'deleted', 'erased', 'taken_down')",
        name="generated_clips_purge_reason_known",
    ),
    CheckConstraint(
        "(status IN ('available', 'deleted', 'purged')) = (expires_at IS NOT NULL)",
        name="generated_clips_expires_at",
    ),
    CheckConstraint(
        "(coalesce(deleted_from, status) IN ('kept', 'published')) = (kept_at IS NOT NULL)",
        name="generated_clips_kept_at",
    ),
    CheckConstraint("(kept_at IS NULL) = (kept_by IS NULL)", name="generated_clips_kept_by"),
    CheckConstraint(
        "(coalesce(deleted_from, status) = 'published') = (published_at IS NOT NULL)",
        name="generated_clips_published_at",
    ),
    CheckConstraint(
        "num_nulls(published_at, share_slug, published_revision, published_embed, published_downloadable,"
        " published_indexable) IN (0, 6)",
        name="generated_clips_publication",
    ),
    CheckConstraint(
        "published_until IS NULL OR published_at IS NOT NULL", name="generated_clips_published_until"
    ),
    CheckConstraint("published_revision BETWEEN 1 AND revision", name="generated_clips_published_revision"),
    CheckConstraint("(status = 'deleted') = (deleted_from IS NOT NULL)", name="generated_clips_deleted_from"),
    CheckConstraint("(status = 'deleted') = (deleted_at IS NOT NULL)", name="generated_clips_deleted_at"),
    CheckConstraint(
        "(deleted_from IS NOT DISTINCT FROM 'available') = (expires_at_before_delete IS NOT NULL)",
        name="generated_clips_expires_at_before_delete",
    ),
    CheckConstraint("(status = 'purged') = (purged_at IS NOT NULL)", name="generated_clips_purged_at"),
    CheckConstraint(
        "CASE status WHEN 'available' THEN coalesce(purge_reason, 'evicted') = 'evicted'"
        " WHEN 'deleted' THEN purge_reason IS NOT DISTINCT FROM 'deleted'"
        " WHEN 'purged' THEN purge_reason IS NOT NULL ELSE purge_reason IS NULL END",
        name="generated_clips_purge_reason",
    ),
    CheckConstraint(
        "num_nulls(detector_cut_at, detector_cut_id) IN (0, 2)", name="generated_clips_detector_cut"
    ),
    CheckConstraint("num_nulls(owner_cut_at, owner_cut_id) IN (0, 2)", name="generated_clips_owner_cut"),
    CheckConstraint("revision >= 1", name="generated_clips_revision"),
    CheckConstraint("version >= 1", name="generated_clips_version"),
    CheckConstraint("file_size_bytes > 0 AND duration_seconds > 0", name="generated_clips_has_content"),
    postgresql_with=VACUUM_OFTEN,
)

_c = generated_clips.c

# Conditions on the status as a constant: the generic plan of a prepared statement can use a partial index
# only when it sees the constant, not a parameter.
AVAILABLE = _c.status == literal_column("'available'")
NOT_PURGED = _c.status != literal_column("'purged'")
PURGED = _c.status == literal_column("'purged'")
PUBLISHED = _c.status == literal_column("'published'")
TITLE_TO_TRIM = and_(PURGED, or_(_c.title != literal_column("''"), _c.offer.is_not(None)))
# Not every purged row: PostgreSQL would use that index to find titles, and read ten days of rows without a
# title first.
ROW_TO_TRIM = and_(PURGED, _c.title == literal_column("''"), _c.offer.is_(None))
# The statuses of clips that have an end and are purged then.
CAN_EXPIRE = _c.status.in_([literal_column("'available'"), literal_column("'deleted'")])
HAS_PUBLICATION_END = and_(_c.status == literal_column("'published'"), _c.published_until.is_not(None))

Index(
    "generated_clips_of_account", _c.twitch_account_id, _c.created_at, _c.clip_id, postgresql_where=NOT_PURGED
)
Index("generated_clips_due", _c.expires_at, _c.clip_id, postgresql_where=CAN_EXPIRE)
Index("generated_clips_ending", _c.published_until, _c.clip_id, postgresql_where=HAS_PUBLICATION_END)
Index("generated_clips_live_status", _c.status, postgresql_where=NOT_PURGED)
# The highlights of a VOD are counted in the index alone: it has the status of their clips.
Index(
    "generated_clips_of_vod",
    _c.twitch_account_id,
    _c.source_vod_id,
    _c.highlight_detected_at,
    postgresql_include=["status"],
)
Index(
    "generated_clips_published",
    _c.twitch_account_id,
    _c.published_at,
    _c.clip_id,
    postgresql_where=PUBLISHED,
)
Index("generated_clips_to_forget", _c.purged_at, postgresql_where=TITLE_TO_TRIM)
Index("generated_clips_to_trim", _c.purged_at, postgresql_where=ROW_TO_TRIM)
# An object belongs to at most one clip; a purged clip owns no object.
Index("generated_clips_object", _c.object_key, _c.bucket, unique=True, postgresql_where=NOT_PURGED)
Index("generated_clips_poster", _c.poster_key, _c.bucket, unique=True, postgresql_where=NOT_PURGED)

# Every share slug that was ever used: no slug is used twice, and a visitor of a dead link is told that a clip
# was there.
share_slugs = Table(
    "share_slugs",
    metadata,
    Column("share_slug", Text, primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# The accounts that were told that clips expire on a day (UTC). The key admits one notice; the day comes
# first, so that notices of past days are found and deleted.
expiry_notices = Table(
    "expiry_notices",
    metadata,
    Column("cohort", Date, primary_key=True),
    Column("twitch_account_id", String(64), primary_key=True),
    Column("noticed_at", DateTime(timezone=True), nullable=False),
)

# Highlights that became no clip: the newest skip of each highlight.
skipped_highlights = Table(
    "skipped_highlights",
    metadata,
    Column("stream_highlight_id", String(64), primary_key=True),
    Column("twitch_account_id", String(64), nullable=False),
    Column("source_vod_id", String(64), nullable=False),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    # Compared as that of the clips.
    Column("highlight_event_id", String(64, collation="C"), nullable=False),
    Column("highlight_detected_at", DateTime(timezone=True), nullable=False),
    Column("skipped_at", DateTime(timezone=True), nullable=False),
    Index("skipped_highlights_of_vod", "twitch_account_id", "source_vod_id", "highlight_detected_at"),
    Index("skipped_highlights_age", "skipped_at"),
)

# The feeds of accounts. A feed that is switched off has no row.
feeds = Table(
    "feeds",
    metadata,
    Column("twitch_account_id", String(64), primary_key=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# Counts of generated_clips that triggers write: see clip_registry.timers.clip_counts.
clip_counts = Table(
    "clip_counts",
    metadata,
    Column("status", Text, primary_key=True),
    Column("expires_from", DateTime(timezone=True), primary_key=True),
    Column("clips", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
clip_count_changes = Table(
    "clip_count_changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("status", Text, nullable=False),
    Column("expires_from", DateTime(timezone=True), nullable=False),
    Column("clips", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    postgresql_with=VACUUM_BY_CHURN,
)

outbox = make_outbox_table(metadata)
outbox_dlq = make_dlq_table(metadata)
