"""Benchmarks: started by hand (``make bench-cutter``), never by a test run."""
