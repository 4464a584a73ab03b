"""MPEG-TS (ISO/IEC 13818-1, whose sections this package cites), with H.264 and AAC in it.

Modules: ``packets`` of 188 bytes carry ``tables``, which list the tracks. ``pes_assembler`` joins the packets
of a track to ``pes`` packets; ``video`` and ``audio`` take samples out of these. ``stream`` recognizes an
MPEG-TS and finds samples at any offset; ``demuxer`` reads from front to end.
"""

from clip_cutter.containers.mpegts.packets import is_transport_stream
from clip_cutter.containers.mpegts.stream import TransportStream

__all__ = ["TransportStream", "is_transport_stream"]
