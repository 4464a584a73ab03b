"""The rules of the cutter: pure, numbers and words in, numbers and words out.

``policy`` says which highlights become clips, ``media`` what is known of a file, ``cut`` how a clip is cut
and what counts as a good one. Times are seconds from the start of the VOD unless a name says otherwise.
"""
