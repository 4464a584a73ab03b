"""The demo: a VOD, highlights in it, and a check of the clips."""
