"""Changes of a table that is in use. They hold each lock only for a moment.

Work that may take long (to build an index, to check or rewrite rows) runs outside a transaction, beside reads
and writes. A step with such work may be interrupted halfway and is then run again from its start: each of its
statements must be right the second time, too.
"""

from alembic import op
from sqlalchemy import text

BATCH_ROWS = 5000


def build_index(
    name: str, table: str, columns: str, *, where: str | None = None, include: str | None = None
) -> None:
    """Build an index beside reads and writes. The remains of an interrupted build are dropped first."""
    included = f" INCLUDE ({include})" if include else ""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY {name} ON {table} ({columns}){included}"
            + (f" WHERE {where}" if where else "")
        )


def replace_index(name: str, table: str, columns: str, *, where: str) -> None:
    """Build an index under a new name, then put it in the place of the one with this name."""
    build_index(f"{name}_new", table, columns, where=where)
    op.execute(f"DROP INDEX IF EXISTS {name}")
    op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")


def add_constraint(table: str, name: str, condition: str) -> None:
    """Add a constraint for rows that are written from now on; :func:`check_rows` checks the older rows."""
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")


def check_rows(table: str, *names: str) -> None:
    """Check that older rows meet the constraints, beside reads and writes."""
    with op.get_context().autocommit_block():
        for name in names:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def change_rows(table: str, key: str, values: str, *, where: str) -> None:
    """Change the rows that meet a condition, in the order of their key, a batch in a transaction."""
    batch = text(
        f"WITH batch AS (SELECT {key} FROM {table}"  # noqa: S608 - written out in a step
        f" WHERE ({where}) AND (CAST(:last AS text) IS NULL OR {key} > CAST(CAST(:last AS text) AS uuid))"
        f" ORDER BY {key} LIMIT {BATCH_ROWS} FOR UPDATE),"
        f" changed AS (UPDATE {table} SET {values} FROM batch WHERE {table}.{key} = batch.{key})"
        f" SELECT CAST({key} AS text) FROM batch ORDER BY {key} DESC LIMIT 1"
    )
    last: str | None = None
    with op.get_context().autocommit_block():
        while (reached := op.get_bind().execute(batch, {"last": last}).scalar()) is not None:
            last = reached
