"""The rules of the cutter, as pure functions.

``policy``: which highlights become clips. ``media``: what ffprobe says about a file. ``plan``: which samples
a clip holds, and whether each track is copied, re-encoded or left out. ``check``: whether a written clip is
the planned one. Times are seconds from the start of the VOD unless a name says otherwise.
"""
