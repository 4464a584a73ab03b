"""The migrations of the database schema, which ``clip-registry migrate`` runs."""
