"""The rules of a clip's life: pure functions of what is known. No I/O, no clock, no framework.

:mod:`clip_registry.clips.store` carries them out as guarded SQL statements, and compares each result with the
outcome that these functions return: when the two disagree, the transaction is rolled back.
"""
