"""Skipped highlights, feeds, and the indexes for VODs, feeds and trimming."""

import sqlalchemy as sa
from alembic import op

from clip_registry.migrations.online_ddl import build_index

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "skipped_highlights",
        sa.Column("stream_highlight_id", sa.String(length=64), nullable=False),
        sa.Column("twitch_account_id", sa.String(length=64), nullable=False),
        sa.Column("source_vod_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("highlight_event_id", sa.String(length=64, collation="C"), nullable=False),
        sa.Column("highlight_detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("skipped_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("stream_highlight_id"),
        if_not_exists=True,
    )
    op.create_index(
        "skipped_highlights_of_vod",
        "skipped_highlights",
        ["twitch_account_id", "source_vod_id", "highlight_detected_at"],
        if_not_exists=True,
    )
    op.create_index("skipped_highlights_age", "skipped_highlights", ["skipped_at"], if_not_exists=True)
    op.create_table(
        "feeds",
        sa.Column("twitch_account_id", sa.String(length=64), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("twitch_account_id"),
        sa.UniqueConstraint("slug"),
        if_not_exists=True,
    )
    build_index(
        "generated_clips_of_vod",
        "generated_clips",
        "twitch_account_id, source_vod_id, highlight_detected_at",
        include="status",
    )
    build_index(
        "generated_clips_published",
        "generated_clips",
        "twitch_account_id, published_at, clip_id",
        where="status = 'published'",
    )
    build_index(
        "generated_clips_to_forget",
        "generated_clips",
        "purged_at",
        where="status = 'purged' AND (title != '' OR offer IS NOT NULL)",
    )


def downgrade() -> None:
    op.drop_index("generated_clips_to_forget", table_name="generated_clips")
    op.drop_index("generated_clips_published", table_name="generated_clips")
    op.drop_index("generated_clips_of_vod", table_name="generated_clips")
    op.drop_table("feeds")
    op.drop_table("skipped_highlights")
