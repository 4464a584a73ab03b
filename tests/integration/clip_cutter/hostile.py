"""VODs that lie about themselves, or are damaged."""

import struct
from collections.abc import Callable
from pathlib import Path

from tests.integration.clip_cutter.media import DecodedFile, ffmpeg, h264, record, remux

Vod = Callable[[str], DecodedFile]

SOURCE = "b-frames.mp4"
HUNDRED_HOURS = 360_000
MATROSKA_DURATION = bytes.fromhex("448988")  # its id, and that 8 bytes follow


def one_frame(_: Vod, path: Path) -> None:
    record(path, *h264(), "-frames:v", "1")


def _packed(vod: Vod, path: Path) -> bytes:
    """A VOD of 12 seconds in the format of a file."""
    return remux(vod(SOURCE).path, path.with_stem("packed")).read_bytes()


def claiming(seconds: int) -> Callable[[Vod, Path], None]:
    """A VOD of 12 seconds whose headers claim another length."""

    def make(vod: Vod, path: Path) -> None:
        content = bytearray(_packed(vod, path))
        if path.suffix == ".mkv":
            at = content.index(MATROSKA_DURATION) + len(MATROSKA_DURATION)
            content[at : at + 8] = struct.pack(">d", seconds * 1000)
        else:
            for kind in (b"mvhd", b"mdhd"):
                _claim(content, kind, seconds)
        path.write_bytes(content)

    return make


def _claim(content: bytearray, kind: bytes, seconds: int) -> None:
    """Change the length in all MP4 boxes of a kind: version 0, ticks a second, length in ticks."""
    at = content.find(kind)
    while at >= 0:
        (ticks,) = struct.unpack_from(">I", content, at + 16)
        struct.pack_into(">I", content, at + 20, min(seconds * ticks, 2**32 - 2))
        at = content.find(kind, at + 1)


def enormous(_: Vod, path: Path) -> None:
    """A picture of 36 million pixels."""
    ffmpeg(
        *("-f", "lavfi", "-i", "color=size=8192x4352:rate=5:duration=4"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(path)),
    )


def claiming_to_be_enormous(vod: Vod, path: Path) -> None:
    """A small picture that the container says is 65535 by 65535."""
    content = vod(SOURCE).path.read_bytes()
    at = content.index(b"avc1", content.index(b"stsd")) + 4 + 24
    path.write_bytes(content[:at] + b"\xff" * 4 + content[at + 4 :])


def flipped_media(vod: Vod, path: Path) -> None:
    """A byte in every 1777 is wrong: in Matroska anywhere, in MP4 in the media."""
    content = bytearray(_packed(vod, path))
    media = slice(1000, content.rindex(b"moov") - 4 if path.suffix == ".mp4" else None, 1777)
    content[media] = bytes(255 - each for each in content[media])
    path.write_bytes(content)


def flipped_index(vod: Vod, path: Path) -> None:
    content = bytearray(vod(SOURCE).path.read_bytes())
    start = content.index(b"moov")
    content[start + 40 :: 97] = bytes(255 - each for each in content[start + 40 :: 97])
    path.write_bytes(content)


def cut_short(vod: Vod, path: Path) -> None:
    """Half of an MP4 that has its index first."""
    whole = remux(vod(SOURCE).path, path.with_name("whole.mp4"), "-movflags", "+faststart")
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
