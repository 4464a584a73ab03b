"""One module per step, in order of their number. A published step never changes."""
