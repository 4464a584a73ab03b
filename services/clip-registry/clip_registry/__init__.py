"""Keeps the life of every clip: its state, its owner, its end."""
