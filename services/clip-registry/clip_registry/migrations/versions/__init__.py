"""One module per step, in order of their number.

The schema that a published step ends in never changes; how it gets there may become gentler. Steps change
tables that are in use: see :mod:`clip_registry.migrations.online_ddl`, and the test that watches every step's
locks.
"""
