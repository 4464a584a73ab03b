"""What ffmpeg and ffprobe may open.

Every VOD may be hostile. Each is opened with three allow-lists: the one protocol that reaches it, formats
that cannot name other files or addresses (as a playlist can), and the decoders that VODs need.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,flv"
# The codecs that streaming software and archives write, decoded by ffmpeg's own code, and AV1 by dav1d. The
# 500 other decoders are for codecs that no VOD has, and are the least tested code of ffmpeg.
DECODERS = ",".join(
    (
        "h264,hevc,av1,libdav1d,vp8,vp9,mpeg1video,mpeg2video,mpeg4,mjpeg,flv",
        "aac,aac_latm,mp3,mp3float,mp2,mp2float,opus,vorbis,flac,alac,ac3,eac3",
        "pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be",
        "pcm_alaw,pcm_mulaw,pcm_bluray",
    )
)
PROTOCOLS = {"file": "file", "http": "http,tcp", "https": "https,tls,tcp"}
# A source that sends nothing for STALL_SECONDS has failed. A failed read is continued where it stopped, after
# a pause of at most RECONNECT_SECONDS; if that fails too, the highlight is redelivered.
STALL_SECONDS = 15
RECONNECT_SECONDS = 2


@dataclass(frozen=True)
class FfmpegInput:
    """A local file, or a presigned URL. A presigned URL is a secret: no ``repr`` and no message shows it.

    ``ca_file``: the certificate authorities (PEM) that the certificate of an ``https`` URL is checked
    against.
    """

    location: str = field(repr=False)
    ca_file: str | None = None

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Return a local file as input. Its protocol is named, so that no file name is taken for a URL."""
        return cls(f"file:{path}")

    @property
    def scheme(self) -> str:
        """The protocol: a key of ``PROTOCOLS``."""
        return self.location.split(":", 1)[0].lower()

    @property
    def is_remote(self) -> bool:
        return self.scheme != "file"

    def options(self) -> dict[str, Any]:
        """Return ffmpeg's input options: the allow-lists; for a URL also its timeouts and its authorities."""
        allowed: dict[str, Any] = {
            "protocol_whitelist": PROTOCOLS[self.scheme],
            "format_whitelist": FORMATS,
            "codec_whitelist": DECODERS,
        }
        timeouts = {  # rw_timeout in microseconds
            "rw_timeout": STALL_SECONDS * 1_000_000,
            "reconnect": 1,
            "reconnect_delay_max": RECONNECT_SECONDS,
        }
        trust = {"tls_verify": 1, "ca_file": self.ca_file} if self.scheme == "https" else {}
        return allowed | timeouts | trust if self.is_remote else allowed
