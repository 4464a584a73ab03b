"""The whole of Clips on one machine, from wheels alone."""
