"""Changes of a table that is in use: none of these holds a lock for longer than a moment.

What may take long (building an index, checking and rewriting rows) runs outside a transaction, beside reads
and writes. A step that does such things may be ended halfway, and is then run again from its start: whatever
it does must be right the second time, too.
"""

from alembic import op
from sqlalchemy import text

ROWS_AT_ONCE = 5000


def build_index(
    name: str, table: str, columns: str, *, where: str | None = None, include: str | None = None
) -> None:
    """Build an index while others read and write. What an interrupted build left goes first."""
    included = f" INCLUDE ({include})" if include else ""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY {name} ON {table} ({columns}){included}"
            + (f" WHERE {where}" if where else "")
        )


def replace_index(name: str, table: str, columns: str, *, where: str) -> None:
    """Build another index in the place of one that is in use until then."""
    build_index(f"{name}_new", table, columns, where=where)
    op.execute(f"DROP INDEX IF EXISTS {name}")
    op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")


def demand(table: str, name: str, condition: str) -> None:
    """Demand a condition of rows from now on; :func:`check_rows` has the older ones checked."""
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")


def check_rows(table: str, *names: str) -> None:
    """Check that the rows of before a demand meet it, while others read and write."""
    with op.get_context().autocommit_block():
        for name in names:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def change_rows(table: str, key: str, values: str, *, where: str) -> None:
    """Change the rows that meet a condition, in the order of their key, each batch for itself."""
    batch = text(
        f"WITH batch AS (SELECT {key} FROM {table}"  # noqa: S608 - written out in a step
        f" WHERE ({where}) AND (CAST(:last AS text) IS NULL OR {key} > CAST(CAST(:last AS text) AS uuid))"
        f" ORDER BY {key} LIMIT {ROWS_AT_ONCE} FOR UPDATE),"
        f" changed AS (UPDATE {table} SET {values} FROM batch WHERE {table}.{key} = batch.{key})"
        f" SELECT CAST({key} AS text) FROM batch ORDER BY {key} DESC LIMIT 1"
    )
    last: str | None = None
    with op.get_context().autocommit_block():
        while (reached := op.get_bind().execute(batch, {"last": last}).scalar()) is not None:
            last = reached
