"""The first schema: clips, and the outbox through which their events leave."""

import sqlalchemy as sa
from alembic import op
from faststream_outbox import outbox_autovacuum_ddl
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "generated_clips",
        sa.Column("clip_id", sa.Uuid(), nullable=False),
        sa.Column("stream_highlight_id", sa.String(length=64), nullable=False),
        sa.Column("twitch_account_id", sa.String(length=64), nullable=False),
        sa.Column("source_vod_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("score", sa.Double()),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("poster_key", sa.Text()),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("file_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("duration_seconds", sa.Double(), nullable=False),
        sa.Column("cut_receipt", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("kept_at", sa.DateTime(timezone=True)),
        sa.Column("kept_by", sa.String(length=64)),
        sa.Column("published_at", sa.DateTime(timezone=True)),
        sa.Column("share_slug", sa.Text()),
        sa.Column("purged_at", sa.DateTime(timezone=True)),
        sa.Column("highlight_event_id", sa.String(length=64, collation="C"), nullable=False),
        sa.Column("highlight_detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(status = 'published') = (published_at IS NOT NULL)", name="generated_clips_published_at"
        ),
        sa.CheckConstraint(
            "(status = 'published') = (share_slug IS NOT NULL)", name="generated_clips_share_slug"
        ),
        sa.CheckConstraint("(status = 'purged') = (purged_at IS NOT NULL)", name="generated_clips_purged_at"),
        sa.CheckConstraint(
            "(status IN ('available', 'purged')) = (expires_at IS NOT NULL)",
            name="generated_clips_expires_at",
        ),
        sa.CheckConstraint(
            "(status IN ('kept', 'published')) = (kept_at IS NOT NULL)", name="generated_clips_kept_at"
        ),
        sa.CheckConstraint(
            "status IN ('available', 'kept', 'published', 'purged')", name="generated_clips_status_known"
        ),
        sa.CheckConstraint("(kept_at IS NULL) = (kept_by IS NULL)", name="generated_clips_kept_by"),
        sa.CheckConstraint(
            "file_size_bytes > 0 AND duration_seconds > 0", name="generated_clips_has_content"
        ),
        sa.CheckConstraint("version >= 1", name="generated_clips_version"),
        sa.PrimaryKeyConstraint("clip_id"),
        sa.UniqueConstraint("share_slug"),
        sa.UniqueConstraint("stream_highlight_id"),
    )
    op.create_index(
        "generated_clips_due",
        "generated_clips",
        ["expires_at", "clip_id"],
        postgresql_where=sa.text("status = 'available'"),
    )
    op.create_index(
        "generated_clips_live_status",
        "generated_clips",
        ["status"],
        postgresql_where=sa.text("status != 'purged'"),
    )
    op.create_index(
        "generated_clips_object",
        "generated_clips",
        ["object_key", "bucket"],
        unique=True,
        postgresql_where=sa.text("status != 'purged'"),
    )
    op.create_index(
        "generated_clips_of_account",
        "generated_clips",
        ["twitch_account_id", "created_at", "clip_id"],
        postgresql_where=sa.text("status != 'purged'"),
    )
    op.create_index(
        "generated_clips_poster",
        "generated_clips",
        ["poster_key", "bucket"],
        unique=True,
        postgresql_where=sa.text("status != 'purged'"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB()),
        sa.Column("attempts_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deliveries_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("first_attempt_at", sa.DateTime(timezone=True)),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True)),
        sa.Column("acquired_at", sa.DateTime(timezone=True)),
        sa.Column("acquired_token", sa.Uuid()),
        sa.Column("timer_id", sa.String(length=255)),
        sa.CheckConstraint("(acquired_token IS NULL) = (acquired_at IS NULL)", name="outbox_lease_ck"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "outbox_leased_idx",
        "outbox",
        ["queue", "next_attempt_at", "id"],
        postgresql_where=sa.text("acquired_token IS NOT NULL"),
    )
    op.create_index(
        "outbox_pending_idx",
        "outbox",
        ["queue", "next_attempt_at", "id"],
        postgresql_where=sa.text("acquired_token IS NULL"),
    )
    op.create_index(
        "outbox_timer_id_uq",
        "outbox",
        ["queue", "timer_id"],
        unique=True,
        postgresql_where=sa.text("timer_id IS NOT NULL"),
    )
    op.create_table(
        "outbox_dlq",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("original_id", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB()),
        sa.Column("deliveries_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("failure_reason", sa.String(length=64), nullable=False),
        sa.Column("last_exception", sa.String()),
        sa.Column("timer_id", sa.String(length=255)),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_dlq_queue_failed_idx", "outbox_dlq", ["queue", "failed_at"])
    # Every event is an insert, an update and a delete: vacuum by churn, not by the table's size.
    op.execute(outbox_autovacuum_ddl("outbox"))


def downgrade() -> None:
    op.drop_table("outbox_dlq")
    op.drop_table("outbox")
    op.drop_table("generated_clips")
