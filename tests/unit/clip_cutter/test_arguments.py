"""What ffmpeg and ffprobe are told."""

from dataclasses import replace
from pathlib import Path

import pytest

from clip_cutter.arguments import (
    DECODERS,
    FORMATS,
    Cut,
    Input,
    cut_command,
    poster_command,
    probe_command,
    tighten_command,
)
from clip_cutter.domain.cut import Plan, Sound
from clip_shared.events import CutMode
from tests.unit.clip_cutter.test_cut_rules import COPY, EXACT, MEDIA, VIDEO

URL = "https://storage.test/vods/v.mp4?X-Amz-Signature=abc"
CUT = Cut(Input(URL), MEDIA, COPY, seek=94.0, start=100.0, end=130.0)
OUT = Path("/scratch/clip.mp4")


def command(cut: Cut) -> list[str]:
    return cut_command("ffmpeg", cut, OUT, 2)


def value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


@pytest.mark.parametrize(
    ("location", "protocols"),
    [(URL, "https,tls,tcp"), ("http://s3/v", "http,tcp"), ("file:/v.mp4", "file")],
)
def test_every_input_is_fenced_in(location: str, protocols: str) -> None:
    source = Input(location)
    for arguments in (probe_command("ffprobe", source), command(replace(CUT, source=source))):
        assert value(arguments, "-protocol_whitelist") == protocols
        assert value(arguments, "-format_whitelist") == FORMATS
        assert value(arguments, "-codec_whitelist") == DECODERS
    for local in (tighten_command("ffmpeg", OUT, OUT), poster_command("ffmpeg", OUT, OUT, 1.0)):
        assert value(local, "-protocol_whitelist") == "file"
        assert value(local, "-codec_whitelist") == DECODERS


def test_a_scheme_that_nobody_fenced_in_is_refused() -> None:
    with pytest.raises(KeyError):
        probe_command("ffprobe", Input("concat:/etc/passwd|/etc/hosts"))


def test_a_files_name_is_never_taken_for_a_url() -> None:
    assert Input.of_file(Path("/vods/http:evil")).location == "file:/vods/http:evil"


def test_only_a_remote_source_can_stall() -> None:
    assert value(command(CUT), "-rw_timeout") == "15000000"
    assert "-rw_timeout" not in command(replace(CUT, source=Input("file:/v.mp4")))


def test_certificates_are_checked() -> None:
    arguments = command(replace(CUT, source=Input(URL, ca_file="/ca.pem")))
    assert (value(arguments, "-tls_verify"), value(arguments, "-ca_file")) == ("1", "/ca.pem")


def test_a_url_is_shown_to_nobody() -> None:
    assert "Signature" not in repr(CUT)


def test_a_copy_seeks_before_it_opens_and_copies_both_streams() -> None:
    arguments = command(CUT)
    assert arguments.index("-ss") < arguments.index("-i")
    assert (value(arguments, "-ss"), value(arguments, "-t")) == ("94.000000", "36.000000")
    assert [arguments[at + 1] for at, each in enumerate(arguments) if each == "-map"] == ["0:0", "0:1"]
    assert (value(arguments, "-c:v"), value(arguments, "-c:a")) == ("copy", "copy")
    assert "-filter_complex" not in arguments
    assert value(arguments, "-movflags") == "+faststart"
    assert {"-dn", "-sn", "-nostdin", "-y"} <= set(arguments)


def test_the_beginning_is_not_sought() -> None:
    assert "-ss" not in command(replace(CUT, seek=0.0))


def test_a_re_encode_begins_with_the_window() -> None:
    arguments = command(replace(CUT, plan=EXACT))
    filters = value(arguments, "-filter_complex")
    assert "trim=end=36.000000:start=5.999000" in filters
    assert "atrim=end=36.000000:start=5.750000" in filters
    assert (value(arguments, "-c:v"), value(arguments, "-c:a"), value(arguments, "-pix_fmt")) == (
        "libx264",
        "aac",
        "yuv420p",
    )


def test_sound_is_re_encoded_alone() -> None:
    arguments = command(replace(CUT, plan=Plan(CutMode.COPY, Sound.ENCODE)))
    assert (value(arguments, "-c:v"), value(arguments, "-c:a")) == ("copy", "aac")


def test_without_sound_there_is_one_stream() -> None:
    arguments = command(replace(CUT, plan=Plan(CutMode.COPY, Sound.NONE)))
    assert arguments.count("-map") == 1
    assert "-c:a" not in arguments


def test_hevc_gets_the_tag_that_apple_knows() -> None:
    assert (
        value(command(replace(CUT, media=replace(MEDIA, video=replace(VIDEO, codec="hevc")))), "-tag:v")
        == "hvc1"
    )


def test_nothing_of_the_sources_metadata_is_kept() -> None:
    assert (value(command(CUT), "-map_metadata"), value(command(CUT), "-map_chapters")) == ("-1", "-1")
