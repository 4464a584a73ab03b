"""Benchmarks: started by hand (``make bench-…``), never by a test run."""
