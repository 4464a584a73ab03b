"""Alembic runs this: it migrates over the connection in its configuration, a step in a transaction."""

from alembic import context

from clip_registry.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
