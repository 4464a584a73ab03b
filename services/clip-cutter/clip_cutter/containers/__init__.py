"""Containers: bytes in, tracks of samples on one time line out, and back.

Nothing here reads from a network, starts a program, or knows a clip. A reader takes bytes through a callable
``read(offset, size)`` or is fed with them, and gives :class:`clip_cutter.containers.model.Track`; the one
writer makes an MP4 of such tracks.

How to add a container:

1. Add a module here, named as its standard is. It raises ``UnsupportedMedia`` for what it cannot read.
2. Its samples on the time line of ``model``: 0 where its first track begins, clock jumps taken out.
3. A class for reading it in ``clip_cutter.vods``, and a line in ``clip_cutter.vods.opener`` that chooses it.
4. Tests beside it that compare its samples with ffprobe's packets, and a seed file for the fuzz tests.
"""
