"""The steps: a module each, in the order of their numbers.

The schema that a published step ends in never changes; the way to it may. Steps change tables that are in
use: see :mod:`clip_registry.migrations.online_ddl`, and the test that watches the locks of every step.
"""
