"""An index of the purged clips without a title: their rows are trimmed next."""

from alembic import op

from clip_registry.migrations.online_ddl import build_index

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "generated_clips_to_trim",
        "generated_clips",
        "purged_at",
        where="status = 'purged' AND title = '' AND offer IS NULL",
    )


def downgrade() -> None:
    op.drop_index("generated_clips_to_trim", "generated_clips")
