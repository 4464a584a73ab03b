"""The expiry notices that accounts were sent."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "expiry_notices",
        sa.Column("cohort", sa.Date(), nullable=False),
        sa.Column("twitch_account_id", sa.String(length=64), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("cohort", "twitch_account_id"),
    )


def downgrade() -> None:
    op.drop_table("expiry_notices")
