"""FLV (Adobe Flash Video File Format 10.1, annex E; Enhanced RTMP for ``avc1`` and ``mp4a``): H.264 and AAC.

A file for a thing: ``tags``, of which a file is a chain; the ``body`` of a tag with video or audio;
``configurations``, which say how samples are coded, and where in a file each of them holds. ``stream``
recognizes and searches, ``demuxer`` reads from front to end.
"""

from clip_cutter.containers.flv.stream import FlvStream

__all__ = ["FlvStream"]
