"""Readers of MP4, MPEG-TS and FLV, and the writer of MP4.

A reader turns the bytes of a file into tracks of samples (:class:`clip_cutter.containers.model.Track`); the
writer turns such tracks into an MP4. A reader gets the bytes by a callable ``read(offset, size)``, or is fed
with them. Nothing here uses the network, starts a program, or knows what a clip is.

How to add a container:

1. Add a module here, named as its standard is. Raise ``UnsupportedMedia`` for each file that it cannot read.
2. Give samples on the time line of ``model``: 0 is where the first track begins; clock jumps are removed.
3. Add a class in ``clip_cutter.vods`` that reads VODs with it; ``clip_cutter.vods.opener`` chooses the class.
4. Compare its samples with ffprobe's packets in tests, and add a seed file for the fuzz tests.
"""
