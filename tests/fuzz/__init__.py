"""Every reader of the cutter against mutated and truncated files: a clip, or a refusal with a reason.

Never a hang, another exception, much memory, a file left behind, or another moment. Each input follows from a
seed and a number, so that any of them can be had again: ``make fuzz SEED=n``.
"""
