"""Counts of clips that triggers keep, and how often the table is vacuumed."""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# The period of ten minutes in which the clip expires; "infinity": it does not expire, or is purged.
EXPIRES_FROM = (
    "CASE WHEN status IN ('available', 'deleted')"
    " THEN date_bin('10 minutes', expires_at, '2000-01-01 00:00:00+00') ELSE 'infinity' END"
)
# A single function for all four triggers, so that it can be read as a whole. It writes nothing when the
# counts stay the same: for a title, an offer, a refused cut.
FUNCTION = f"""
CREATE OR REPLACE FUNCTION count_generated_clips() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO clip_count_changes (status, expires_from, clips, bytes)
        SELECT status, {EXPIRES_FROM}, count(*), sum(file_size_bytes) FROM rows_after GROUP BY 1, 2;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO clip_count_changes (status, expires_from, clips, bytes)
        SELECT status, {EXPIRES_FROM}, -count(*), -sum(file_size_bytes) FROM rows_before GROUP BY 1, 2;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO clip_count_changes (status, expires_from, clips, bytes)
        SELECT status, expires_from, sum(clips), sum(bytes)
        FROM (
            SELECT status, {EXPIRES_FROM} AS expires_from, 1 AS clips, file_size_bytes AS bytes
            FROM rows_after
            UNION ALL
            SELECT status, {EXPIRES_FROM}, -1, -file_size_bytes FROM rows_before
        ) AS both_rows
        GROUP BY 1, 2 HAVING sum(clips) <> 0 OR sum(bytes) <> 0;
    ELSE
        DELETE FROM clip_count_changes;
        DELETE FROM clip_counts;
    END IF;
    RETURN NULL;
END
$$"""  # noqa: S608 - of constants
TRIGGERS = {
    "INSERT": "REFERENCING NEW TABLE AS rows_after",
    "UPDATE": "REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after",
    "DELETE": "REFERENCING OLD TABLE AS rows_before",
    "TRUNCATE": "",
}
# Adds what the counts lack, or have too much. A single statement sees the database at one moment: the
# triggers count what is committed later.
ADD_DRIFT = f"""
INSERT INTO clip_count_changes (status, expires_from, clips, bytes)
SELECT status, expires_from, sum(clips), sum(bytes)
FROM (
    SELECT status, {EXPIRES_FROM} AS expires_from, count(*) AS clips, sum(file_size_bytes) AS bytes
    FROM generated_clips GROUP BY 1, 2
    UNION ALL SELECT status, expires_from, -clips, -bytes FROM clip_counts
    UNION ALL SELECT status, expires_from, -clips, -bytes FROM clip_count_changes
) AS found
GROUP BY 1, 2 HAVING sum(clips) <> 0 OR sum(bytes) <> 0"""  # noqa: S608 - of constants
# PostgreSQL's defaults wait for a fifth of the table: at 100 million rows, for three weeks of purges.
VACUUM = {
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_insert_scale_factor": 0.01,
    "autovacuum_analyze_scale_factor": 0.01,
}
# Every change is an insert and a delete: vacuum by the number of changes, as for the outbox.
VACUUM_CHANGES = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_insert_scale_factor": 0,
    "autovacuum_vacuum_insert_threshold": 1000,
}


def upgrade() -> None:
    op.create_table(
        "clip_counts", *_columns(), sa.PrimaryKeyConstraint("status", "expires_from"), if_not_exists=True
    )
    op.create_table(
        "clip_count_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        *_columns(),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
    )
    _set("generated_clips", VACUUM)
    _set("clip_count_changes", VACUUM_CHANGES)
    op.execute(FUNCTION)
    for event, rows in TRIGGERS.items():
        op.execute(
            f"CREATE OR REPLACE TRIGGER count_{event.lower()} AFTER {event} ON generated_clips"
            f" {rows} FOR EACH STATEMENT EXECUTE FUNCTION count_generated_clips()"
        )
    # The triggers are committed now, and count every later change.
    with op.get_context().autocommit_block():
        op.execute(ADD_DRIFT)


def _columns() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("expires_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("clips", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
    )


def _set(table: str, options: Mapping[str, float]) -> None:
    values = ", ".join(f"{name} = {value}" for name, value in options.items())
    op.execute(f"ALTER TABLE {table} SET ({values})")


def downgrade() -> None:
    for event in TRIGGERS:
        op.execute(f"DROP TRIGGER count_{event.lower()} ON generated_clips")
    op.execute("DROP FUNCTION count_generated_clips()")
    op.execute(f"ALTER TABLE generated_clips RESET ({', '.join(VACUUM)})")
    op.drop_table("clip_count_changes")
    op.drop_table("clip_counts")
