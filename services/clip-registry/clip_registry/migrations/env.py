"""Alembic's entry: migrates over the connection, and within the transaction, that it is handed."""

from alembic import context

from clip_registry.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
