"""What ffmpeg and ffprobe may open.

Every input may be hostile. Each is opened behind three fences: only the protocol that it is reached by, only
formats that cannot name other files or addresses, as a playlist can, and only decoders that a VOD needs.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,flv"
# What streaming software and archives write into those formats, decoded by ffmpeg's own code, and AV1 by
# dav1d. The 500 other decoders are for formats that no VOD has, and the least tested code of ffmpeg.
DECODERS = ",".join(
    (
        "h264,hevc,av1,libdav1d,vp8,vp9,mpeg1video,mpeg2video,mpeg4,mjpeg,flv",
        "aac,aac_latm,mp3,mp3float,mp2,mp2float,opus,vorbis,flac,alac,ac3,eac3",
        "pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be",
        "pcm_alaw,pcm_mulaw,pcm_bluray",
    )
)
PROTOCOLS = {"file": "file", "http": "http,tcp", "https": "https,tls,tcp"}
# A source that gives nothing for so long has failed. A read that failed goes on where it was, after a pause
# of at most so long; else the job is tried again as a whole.
STALL_SECONDS = 15
RECONNECT_SECONDS = 2


@dataclass(frozen=True)
class FfmpegInput:
    """A file of this machine, or a presigned URL: a secret, which no ``repr`` and no message shows.

    ``ca_file``: the authorities (PEM) that an ``https`` URL's certificate is checked against.
    """

    location: str = field(repr=False)
    ca_file: str | None = None

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """A file; with its protocol, so that no name can be taken for a URL."""
        return cls(f"file:{path}")

    @property
    def scheme(self) -> str:
        """How it is reached: one of ``PROTOCOLS``."""
        return self.location.split(":", 1)[0].lower()

    @property
    def is_remote(self) -> bool:
        """Whether it is not on this machine."""
        return self.scheme != "file"

    def options(self) -> dict[str, Any]:
        """The fences, and for a remote source when to give it up (microseconds) and whom to trust."""
        fences: dict[str, Any] = {
            "protocol_whitelist": PROTOCOLS[self.scheme],
            "format_whitelist": FORMATS,
            "codec_whitelist": DECODERS,
        }
        patience = {
            "rw_timeout": STALL_SECONDS * 1_000_000,
            "reconnect": 1,
            "reconnect_delay_max": RECONNECT_SECONDS,
        }
        trust = {"tls_verify": 1, "ca_file": self.ca_file} if self.scheme == "https" else {}
        return fences | patience | trust if self.is_remote else fences
