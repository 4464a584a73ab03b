"""Cuts highlights out of VODs into clips."""
