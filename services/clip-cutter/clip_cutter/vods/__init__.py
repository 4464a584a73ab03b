"""VODs: where their bytes come from (``source``), and one class for each way to read them.

``opener`` chooses: ``indexed`` for MP4 with an index, ``fragmented`` for fragmented MP4, ``streamed`` for
MPEG-TS and FLV, ``remuxed`` (by ffmpeg) for all others. Each returns an excerpt for a window.
"""
