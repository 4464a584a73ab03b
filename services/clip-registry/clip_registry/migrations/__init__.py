"""The history of the database schema, applied by ``clip-registry migrate``."""
