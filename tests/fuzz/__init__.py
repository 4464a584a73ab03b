"""Fuzz tests: every reader of the cutter reads mutated and truncated files.

Each file must become a clip of the right window, or be refused with a reason. A hang, another exception, too
much memory, or a file left on disk is a failure. Each input is computed from a seed and a number, so that it
can be
repeated: ``make fuzz SEED=n``.
"""
