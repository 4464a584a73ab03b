"""Actions of owners: delete and restore, rename, options of publishing; and the origin of a cut."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from clip_registry.migrations.online_ddl import (
    add_constraint,
    build_index,
    change_rows,
    check_rows,
    replace_index,
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLE = "generated_clips"
# The constraints that the status "deleted" changes, and one that generated_clips_publication replaces.
BEFORE = {
    "generated_clips_status_known": "status IN ('available', 'kept', 'published', 'purged')",
    "generated_clips_expires_at": "(status IN ('available', 'purged')) = (expires_at IS NOT NULL)",
    "generated_clips_kept_at": "(status IN ('kept', 'published')) = (kept_at IS NOT NULL)",
    "generated_clips_published_at": "(status = 'published') = (published_at IS NOT NULL)",
    "generated_clips_share_slug": "(status = 'published') = (share_slug IS NOT NULL)",
}
AFTER = {
    "generated_clips_status_known": "status IN ('available', 'kept', 'published', 'deleted', 'purged')",
    "generated_clips_origin_known": "origin IN ('detector', 'owner', 'import')",
    "generated_clips_deleted_from_known": "deleted_from IN ('available', 'kept', 'published')",
    "generated_clips_purge_reason_known": (
        "purge_reason IN ('expired', 'evicted', 'deleted', 'erased', 'taken_down')"
    ),
    "generated_clips_expires_at": "(status IN ('available', 'deleted', 'purged')) = (expires_at IS NOT NULL)",
    "generated_clips_kept_at": (
        "(coalesce(deleted_from, status) IN ('kept', 'published')) = (kept_at IS NOT NULL)"
    ),
    "generated_clips_published_at": (
        "(coalesce(deleted_from, status) = 'published') = (published_at IS NOT NULL)"
    ),
    "generated_clips_publication": (
        "num_nulls(published_at, share_slug, published_revision, published_embed, published_downloadable,"
        " published_indexable) IN (0, 6)"
    ),
    "generated_clips_published_until": "published_until IS NULL OR published_at IS NOT NULL",
    "generated_clips_published_revision": "published_revision BETWEEN 1 AND revision",
    "generated_clips_deleted_from": "(status = 'deleted') = (deleted_from IS NOT NULL)",
    "generated_clips_deleted_at": "(status = 'deleted') = (deleted_at IS NOT NULL)",
    "generated_clips_expires_at_before_delete": (
        "(deleted_from IS NOT DISTINCT FROM 'available') = (expires_at_before_delete IS NOT NULL)"
    ),
    "generated_clips_purge_reason": (
        "CASE status WHEN 'available' THEN coalesce(purge_reason, 'evicted') = 'evicted'"
        " WHEN 'deleted' THEN purge_reason IS NOT DISTINCT FROM 'deleted'"
        " WHEN 'purged' THEN purge_reason IS NOT NULL ELSE purge_reason IS NULL END"
    ),
    "generated_clips_detector_cut": "num_nulls(detector_cut_at, detector_cut_id) IN (0, 2)",
    "generated_clips_owner_cut": "num_nulls(owner_cut_at, owner_cut_id) IN (0, 2)",
    "generated_clips_revision": "revision >= 1",
}


def new_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("renamed_at", sa.DateTime(timezone=True)),
        sa.Column("source", postgresql.JSONB()),
        # With defaults: an older registry goes on inserting rows, and no row has to be rewritten.
        sa.Column("origin", sa.Text(), nullable=False, server_default="detector"),
        sa.Column("revision", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("published_revision", sa.Integer()),
        sa.Column("published_until", sa.DateTime(timezone=True)),
        sa.Column("published_embed", sa.Boolean()),
        sa.Column("published_downloadable", sa.Boolean()),
        sa.Column("published_indexable", sa.Boolean()),
        sa.Column("deleted_from", sa.Text()),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at_before_delete", sa.DateTime(timezone=True)),
        sa.Column("purge_reason", sa.Text()),
        sa.Column("offer", postgresql.JSONB()),
        sa.Column("detector_cut_at", sa.DateTime(timezone=True)),
        sa.Column("detector_cut_id", sa.String(length=64, collation="C")),
        sa.Column("owner_cut_at", sa.DateTime(timezone=True)),
        sa.Column("owner_cut_id", sa.String(length=64, collation="C")),
    )


# Before this step only detectors asked for cuts, and a clip was purged only because it had expired.
VALUES = """
    detector_cut_at = highlight_detected_at, detector_cut_id = highlight_event_id,
    published_revision = CASE WHEN status = 'published' THEN 1 END,
    published_embed = CASE WHEN status = 'published' THEN true END,
    published_downloadable = CASE WHEN status = 'published' THEN false END,
    published_indexable = CASE WHEN status = 'published' THEN false END,
    purge_reason = CASE WHEN status = 'purged' THEN 'expired' END"""


def upgrade() -> None:
    for column in new_columns():
        op.add_column(TABLE, column, if_not_exists=True)
    for name in BEFORE:
        op.drop_constraint(name, TABLE, if_exists=True)
    for name, condition in AFTER.items():
        add_constraint(TABLE, name, condition)
    op.create_table(
        "share_slugs",
        sa.Column("share_slug", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("share_slug"),
        if_not_exists=True,
    )
    change_rows(TABLE, "clip_id", VALUES, where="detector_cut_at IS NULL")
    check_rows(TABLE, *AFTER)
    op.execute(
        """INSERT INTO share_slugs (share_slug, created_at)
            SELECT share_slug, published_at FROM generated_clips WHERE share_slug IS NOT NULL
            ON CONFLICT DO NOTHING"""
    )
    build_index(
        "generated_clips_ending",
        TABLE,
        "published_until, clip_id",
        where="status = 'published' AND published_until IS NOT NULL",
    )
    replace_index(
        "generated_clips_due", TABLE, "expires_at, clip_id", where="status IN ('available', 'deleted')"
    )


def downgrade() -> None:
    op.drop_table("share_slugs")
    op.drop_index("generated_clips_ending", TABLE)
    op.drop_index("generated_clips_due", TABLE)
    for name in AFTER:
        op.drop_constraint(name, TABLE)
    # A deleted clip is due now: the older schema has no other way to say so.
    op.execute(
        """UPDATE generated_clips SET status = 'available', expires_at = now(), kept_at = NULL,
            kept_by = NULL, published_at = NULL, share_slug = NULL, deleted_from = NULL
        WHERE status = 'deleted'"""
    )
    for name, condition in BEFORE.items():
        op.create_check_constraint(name, TABLE, condition)
    for column in new_columns():
        op.drop_column(TABLE, column.name)
    op.create_index(
        "generated_clips_due",
        TABLE,
        ["expires_at", "clip_id"],
        postgresql_where=sa.text("status = 'available'"),
    )
