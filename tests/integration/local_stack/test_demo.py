"""The demo tells the truth: it ends well on a recording, and badly, with the reason, on anything else."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from tests.support.deployment import ROOT

from local_stack.demo.demo import DemoOptions, run_demo
from local_stack.demo.vod import generate_vod


def tell(wish: DemoOptions) -> tuple[bool, str]:
    said = io.StringIO()
    return run_demo(Console(file=said, width=200), wish), said.getvalue()


def told_by_the_readme() -> list[str]:
    return re.findall(r"^✓.*$", (ROOT / "README.md").read_text(), re.MULTILINE)


def plain(line: str) -> str:
    """A line of the demo without what is another each time: times, sizes, names of files."""
    return re.sub(r"vods/\S+|[\d.]+", "", line).replace(" ", "")


def test_the_main_job_on_a_transport_stream(tmp_path: Path) -> None:
    vod = tmp_path / "vod.ts"
    generate_vod(vod, seconds=20, b_frames=2)
    went_well, said = tell(DemoOptions(vod, start=7.77, end=11, retention_seconds=8))
    assert went_well, said
    assert said.count("first frame identical to the recording's") == 2
    assert "404 from the gateway, its object is gone" in said
    assert "still plays, byte for byte" in said
    lines = {plain(line) for line in said.splitlines()}
    assert [line for line in told_by_the_readme() if plain(line) not in lines] == []
    assert list(tmp_path.iterdir()) == [vod]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"hello", "Invalid data found"), (b"", "Invalid data found|End of file")],
)
def test_a_file_that_is_no_recording(tmp_path: Path, content: bytes, reason: str) -> None:
    vod = tmp_path / "vod.mp4"
    vod.write_bytes(content)
    went_well, said = tell(DemoOptions(vod))
    assert not went_well
    assert any(each in said for each in reason.split("|")), said
