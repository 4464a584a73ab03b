"""The arguments of ffmpeg and ffprobe: pure, no process is started here.

Every input may be hostile. Each is opened behind three fences: only the protocol that it is reached by, only
formats that cannot name other files or addresses, as a playlist can, and only decoders that a VOD needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import ffmpeg

from clip_cutter.domain.cut import MARGIN_SECONDS, ROUNDING_SECONDS, Plan, Sound
from clip_cutter.domain.media import Media, Video
from clip_cutter.probe import PROBED
from clip_shared.events import CutMode

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

# "verbose", because it counts the bytes that were read; "level", so that errors can be told from the rest.
LOG = ("-hide_banner", "-loglevel", "level+verbose")
QUIETLY = (*LOG, "-nostdin", "-nostats")

WEB_VIDEO: Mapping[str, Any] = {
    "c:v": "libx264",
    "preset": "veryfast",
    "crf": 20,
    "pix_fmt": "yuv420p",
    # Else time stamps are rounded to the frame rate, and the picture moves against the sound.
    "enc_time_base:v": "1/90000",
}
WEB_AUDIO: Mapping[str, Any] = {"c:a": "aac", "b:a": "160k", "ac": 2}
MP4: Mapping[str, Any] = {
    "f": "mp4",
    "movflags": "+faststart",
    "use_editlist": 1,
    # The time scale of edit lists: MPEG-TS's own, and fine enough for every frame rate.
    "movie_timescale": 90_000,
    # What a recorder wrote about itself and its owner is nobody's business.
    "map_metadata": -1,
    "map_chapters": -1,
    "dn": None,
    "sn": None,
}
JPEG: Mapping[str, Any] = {
    "f": "image2",
    "update": 1,
    "fps_mode": "passthrough",  # else a picture from before the time that was sought is dropped
    "c:v": "mjpeg",
    "q:v": 3,
    "pix_fmt": "yuvj420p",
    "threads": 1,
}

# A seek for a picture must aim this far behind it: ffmpeg allows for pictures that are decoded before they
# are shown, and would land on the keyframe before.
SEEK_SECONDS = 0.2

EVEN_SIZE = ("trunc(iw/2)*2", "trunc(ih/2)*2")  # as 4:2:0 needs it
POSTER_SIZE = ("min(1280,trunc(iw*max(sar,1)/2)*2)", "-2")


@dataclass(frozen=True)
class Input:
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


@dataclass(frozen=True)
class Cut:
    """One cut, in seconds from the start of the VOD. Reading and the output begin at ``seek``."""

    source: Input
    media: Media
    plan: Plan
    seek: float
    start: float
    end: float


def probe_command(ffprobe: str, source: Input) -> list[str]:
    """Ask ffprobe for what :func:`clip_cutter.probe.read_media` reads."""
    options = [part for name, value in source.options().items() for part in (f"-{name}", str(value))]
    return [ffprobe, *LOG, *options, "-show_entries", PROBED, "-of", "json", source.location]


def cut_command(program: str, cut: Cut, output: Path, threads: int) -> list[str]:
    """Cut a window.

    What is copied is kept from ``seek`` on, and from the keyframe before it: that is for the edit list to
    hide. What is re-encoded begins with the window.
    """
    options = {"threads": threads} | cut.source.options()
    if cut.seek > 0:  # a seek to 0 misses the first keyframe of some FLVs
        options["ss"] = _seconds(cut.seek)
    stream = ffmpeg.input(cut.source.location, **options)
    streams: list[Any] = []
    codecs: dict[str, Any] = {}
    if cut.media.video is not None:
        streams.append(_picture(stream[str(cut.media.video.index)], cut))
        codecs |= _video_codec(cut.plan, cut.media.video)
    if cut.media.audio is not None and cut.plan.sound is not Sound.NONE:
        streams.append(_sound(stream[str(cut.media.audio.index)], cut))
        codecs |= {"c:a": "copy"} if cut.plan.sound is Sound.COPY else WEB_AUDIO
    length = _seconds(cut.end - cut.seek)
    return _compile(program, ffmpeg.output(*streams, str(output), t=length, threads=threads, **codecs, **MP4))


def _picture(stream: Any, cut: Cut) -> Any:
    if cut.plan.mode is CutMode.COPY:
        return stream
    return stream.filter("trim", **_window(cut, ROUNDING_SECONDS)).filter("scale", *EVEN_SIZE)


def _sound(stream: Any, cut: Cut) -> Any:
    return stream if cut.plan.sound is Sound.COPY else stream.filter("atrim", **_window(cut, MARGIN_SECONDS))


def _window(cut: Cut, margin: float) -> dict[str, str]:
    start = max(cut.start - cut.seek - margin, 0.0)
    return {"start": _seconds(start), "end": _seconds(cut.end - cut.seek)}


def _video_codec(plan: Plan, video: Video) -> Mapping[str, Any]:
    if plan.mode is CutMode.EXACT:
        return WEB_VIDEO
    # Apple's players know HEVC in MP4 by this tag only.
    return {"c:v": "copy", "tag:v": "hvc1"} if video.codec == "hevc" else {"c:v": "copy"}


def tighten_command(program: str, clip: Path, output: Path) -> list[str]:
    """Copy a clip: what its edit list hides before the keyframe of its first picture stays behind."""
    source = Input.of_file(clip)
    stream = ffmpeg.input(source.location, **source.options())
    return _compile(program, ffmpeg.output(stream, str(output), map=0, c="copy", **MP4))


def poster_command(program: str, clip: Path, output: Path, keyframe: float | None) -> list[str]:
    """Save a picture of a clip as JPEG: the one at ``keyframe``, else the first.

    What comes before the first picture, hidden, has to be decoded for it: a keyframe costs a tenth of that.
    """
    source = Input.of_file(clip)
    options: dict[str, Any] = {"threads": 1, "an": None} | source.options()
    if keyframe is not None:
        at = _seconds(keyframe + SEEK_SECONDS)
        options |= {"ss": at, "noaccurate_seek": None, "skip_frame": "nokey"}
    picture = ffmpeg.input(source.location, **options).video.filter("scale", *POSTER_SIZE)
    return _compile(program, ffmpeg.output(picture, str(output), **{"frames:v": 1}, **JPEG))


def _compile(program: str, graph: Any) -> list[str]:
    command: list[str] = ffmpeg.compile(graph, cmd=[program, *QUIETLY], overwrite_output=True)
    return command


def _seconds(value: float) -> str:
    return f"{value:.6f}"
