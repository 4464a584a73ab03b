"""The connection to PostgreSQL, and the tables in it."""
