"""ffmpeg and ffprobe.

``input``: what they may open. ``commands`` and ``filters``: their arguments. ``process``: a child process
with limits. ``probe`` and ``posters``: how their output is read. ``run``: the two programs, and what a
failure means.
"""
