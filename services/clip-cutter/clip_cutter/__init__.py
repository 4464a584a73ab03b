"""The cutter: makes a clip of each highlight. The service's README lists its modules in reading order."""
