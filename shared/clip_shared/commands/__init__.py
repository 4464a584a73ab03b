"""The command groups of ``clip-shared``, one module for each."""
