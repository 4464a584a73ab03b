"""MPEG-TS (ISO/IEC 13818-1, to which all sections in this package refer), with H.264 and AAC in it.

A file for a thing: ``packets`` of 188 bytes carry ``tables``, which say where tracks are. The packets of a
track go through a ``pipe`` that puts together ``pes`` packets; ``video`` and ``audio`` take samples out of
them. ``stream`` recognizes and searches, ``demuxer`` reads from front to end.
"""

from clip_cutter.containers.mpegts.packets import is_transport_stream
from clip_cutter.containers.mpegts.stream import TransportStream

__all__ = ["TransportStream", "is_transport_stream"]
