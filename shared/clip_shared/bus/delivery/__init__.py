"""What becomes of a message that failed: one concern a module."""
