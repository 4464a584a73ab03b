"""ffmpeg and ffprobe: what they are told, how they are run, and what they said.

``input``: what they may open. ``commands``: their arguments. ``process``: a child process within its limits.
``probe``: what ffprobe's answer means. ``run``: the two programs, and whose fault a failure was.
"""
