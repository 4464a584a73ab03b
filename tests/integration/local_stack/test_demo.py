"""The demo succeeds on a VOD, and fails with the reason on a file that is not a VOD."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from tests.support.deployment import ROOT

from local_stack.demo.demo import DemoOptions, run_demo
from local_stack.demo.vod import generate_vod


def run(options: DemoOptions) -> tuple[bool, str]:
    output = io.StringIO()
    return run_demo(Console(file=output, width=200), options), output.getvalue()


def lines_of_the_readme() -> list[str]:
    return re.findall(r"^✓.*$", (ROOT / "README.md").read_text(), re.MULTILINE)


def plain(line: str) -> str:
    """Return a line of the demo without the parts that change: times, sizes, file names."""
    return re.sub(r"vods/\S+|[\d.]+", "", line).replace(" ", "")


def test_the_main_job_on_a_transport_stream(tmp_path: Path) -> None:
    vod = tmp_path / "vod.ts"
    generate_vod(vod, seconds=20, b_frames=2)
    succeeded, output = run(DemoOptions(vod, start=7.77, end=11, retention_seconds=8))
    assert succeeded, output
    assert output.count("first frame identical to the VOD's") == 2
    assert "its object is deleted, the gateway answers 404" in output
    assert "still plays, with the same bytes" in output
    lines = {plain(line) for line in output.splitlines()}
    assert [line for line in lines_of_the_readme() if plain(line) not in lines] == []
    assert list(tmp_path.iterdir()) == [vod]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"hello", "Invalid data found"), (b"", "Invalid data found|End of file")],
)
def test_a_file_that_is_not_a_vod(tmp_path: Path, content: bytes, reason: str) -> None:
    vod = tmp_path / "vod.mp4"
    vod.write_bytes(content)
    succeeded, output = run(DemoOptions(vod))
    assert not succeeded
    assert any(each in output for each in reason.split("|")), output
