"""Child processes, their ports, their files, and how they end."""
