"""What ffmpeg and ffprobe are told."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from clip_cutter.domain.media import Audio, Media, Video
from clip_cutter.ffmpeg.commands import (
    Encoding,
    RemuxRange,
    decode_command,
    encode_command,
    poster_command,
    probe_command,
    remux_command,
)
from clip_cutter.ffmpeg.input import DECODERS, FORMATS, FfmpegInput
from clip_cutter.ffmpeg.posters import PosterFrames
from clip_cutter.ffmpeg.probe import VideoStreams

URL = "https://storage.test/vods/v.mkv?X-Amz-Signature=abc"
VIDEO = Video(0, "h264", "yuv420p", 1280, 720, 1 / 60, 0.0, 600.0)
AUDIO = Audio(1, "aac", 0.0, 600.0)
MEDIA = Media("matroska", 0.0, 600.0, 3_000_000, VIDEO, AUDIO)
PART = RemuxRange(FfmpegInput(URL), MEDIA, 94.0, 130.0)
OUT = Path("/scratch/clip.mp4")
ENCODING = Encoding(OUT, (0,), (1,), 6.0, 36.0)
SKETCH = VideoStreams({0: VIDEO}, (0.0, 6.0))


def remux(part: RemuxRange) -> list[str]:
    return remux_command("ffmpeg", part, OUT, 2)


def encode(encoding: Encoding) -> list[str]:
    return encode_command("ffmpeg", encoding, SKETCH, OUT, 2)


def value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


@pytest.mark.parametrize(
    ("location", "protocols"),
    [(URL, "https,tls,tcp"), ("http://s3/v", "http,tcp"), ("file:/v.mp4", "file")],
)
def test_every_input_is_fenced_in(location: str, protocols: str) -> None:
    source = FfmpegInput(location)
    for arguments in (probe_command("ffprobe", source), remux(replace(PART, source=source))):
        assert value(arguments, "-protocol_whitelist") == protocols
        assert value(arguments, "-format_whitelist") == FORMATS
        assert value(arguments, "-codec_whitelist") == DECODERS
    for local in (
        poster_command("ffmpeg", OUT, OUT, PosterFrames((1.0,))),
        encode(ENCODING),
        decode_command("ffmpeg", OUT, 2),
    ):
        assert value(local, "-protocol_whitelist") == "file"
        assert value(local, "-codec_whitelist") == DECODERS


def test_a_scheme_that_nobody_fenced_in_is_refused() -> None:
    with pytest.raises(KeyError):
        probe_command("ffprobe", FfmpegInput("concat:/etc/passwd|/etc/hosts"))


def test_a_files_name_is_never_taken_for_a_url() -> None:
    assert FfmpegInput.of_file(Path("/vods/http:evil")).location == "file:/vods/http:evil"


def test_only_a_remote_source_can_stall() -> None:
    assert value(remux(PART), "-rw_timeout") == "15000000"
    assert "-rw_timeout" not in remux(replace(PART, source=FfmpegInput("file:/v.mp4")))


def test_certificates_are_checked() -> None:
    arguments = remux(replace(PART, source=FfmpegInput(URL, ca_file="/ca.pem")))
    assert (value(arguments, "-tls_verify"), value(arguments, "-ca_file")) == ("1", "/ca.pem")


def test_a_url_is_shown_to_nobody() -> None:
    assert "Signature" not in repr(PART)


def test_a_stretch_is_sought_before_it_is_opened_and_copied() -> None:
    arguments = remux(PART)
    assert arguments.index("-ss") < arguments.index("-i")
    assert (value(arguments, "-ss"), value(arguments, "-t")) == ("94.000000", "36.000000")
    assert [arguments[at + 1] for at, each in enumerate(arguments) if each == "-map"] == ["0:0", "0:1"]
    assert (value(arguments, "-c:v"), value(arguments, "-c:a")) == ("copy", "copy")
    assert "-filter_complex" not in arguments
    assert {"-dn", "-sn", "-nostdin", "-y"} <= set(arguments)


def test_audio_is_copied_even_if_no_packet_of_it_is_called_a_keyframe() -> None:
    assert "-copyinkf:a" in remux(PART)


def test_the_beginning_is_not_sought() -> None:
    assert "-ss" not in remux(replace(PART, start=0.0))


def test_a_re_encode_begins_with_the_frame_on_screen_at_its_start() -> None:
    arguments = encode(ENCODING)
    filters = value(arguments, "-filter_complex")
    assert "trim=end=36.000000:start=5.999000" in filters
    assert "atrim=end=36.000000:start=6.000000" in filters
    assert (value(arguments, "-c:v"), value(arguments, "-c:a"), value(arguments, "-pix_fmt")) == (
        "libx264",
        "aac",
        "yuv420p",
    )


@pytest.mark.parametrize(("rate", "filters"), [(None, ""), (Fraction(30000, 1001), "fps=30000/1001")])
def test_frames_are_repeated_only_where_that_is_wanted(rate: Fraction | None, filters: str) -> None:
    told = value(encode(replace(ENCODING, rate=rate)), "-filter_complex")
    assert ("fps=" in told) == bool(filters)
    assert filters in told


def test_a_kind_that_is_not_wanted_is_not_encoded() -> None:
    assert "-c:a" not in encode(replace(ENCODING, audio=()))
    assert "-c:v" not in encode(replace(ENCODING, video=()))


def test_without_audio_there_is_one_stream() -> None:
    arguments = remux(replace(PART, media=replace(MEDIA, audio=None)))
    assert arguments.count("-map") == 1
    assert "-c:a" not in arguments


def test_hevc_gets_the_tag_that_apple_knows() -> None:
    hevc = replace(MEDIA, video=replace(VIDEO, codec="hevc"))
    assert value(remux(replace(PART, media=hevc)), "-tag:v") == "hvc1"


def test_what_mp4_cannot_hold_is_encoded_on_the_way() -> None:
    old = replace(MEDIA, video=replace(VIDEO, codec="vp8"), audio=replace(AUDIO, codec="pcm_s16le"))
    arguments = remux(replace(PART, media=old))
    assert (value(arguments, "-c:v"), value(arguments, "-c:a")) == ("libx264", "alac")


def test_nothing_of_the_sources_metadata_is_kept() -> None:
    for arguments in (remux(PART), encode(ENCODING)):
        assert (value(arguments, "-map_metadata"), value(arguments, "-map_chapters")) == ("-1", "-1")
