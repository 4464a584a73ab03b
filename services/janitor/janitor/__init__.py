"""Expires clips that nobody kept and deletes the objects that clips have let go."""
