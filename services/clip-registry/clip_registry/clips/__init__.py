"""A clip's life in PostgreSQL: cuts that become clips, actions of their owners, notices and purges."""
