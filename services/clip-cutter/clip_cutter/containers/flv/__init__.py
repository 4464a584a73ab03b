"""FLV (Adobe Flash Video File Format 10.1, annex E; Enhanced RTMP for ``avc1`` and ``mp4a``): H.264 and AAC.

Modules: ``tags``, of which a file consists; ``tag_body``, the content of a video or audio tag;
``configurations``, the decoder configurations and the parts of a file for which they are valid. ``stream``
recognizes an FLV and finds samples at any offset; ``demuxer`` reads from front to end.
"""

from clip_cutter.containers.flv.stream import FlvStream

__all__ = ["FlvStream"]
