"""The rules of the cutter: pure, numbers and words in, numbers and words out.

``policy`` says which highlights become clips, ``media`` what a probe says of a file, ``plan`` what a clip
shows and what becomes of each track, ``check`` whether a written clip is the one that was planned. Times are
seconds from the start of the VOD unless a name says otherwise.
"""
