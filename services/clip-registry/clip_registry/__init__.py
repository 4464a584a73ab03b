"""The registry: it owns every clip's row, from the first cut to the purge."""
