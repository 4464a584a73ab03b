"""The command line of the shared package says what it offers, and an error in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clip_shared.__main__ import cli

GROUPS = {"topics", "buckets", "tick", "dlq", "skips", "schemas"}


def test_help_names_every_group() -> None:
    shown = CliRunner().invoke(cli, ["--help"], env={"COLUMNS": "200"}).stdout
    assert {name for name in GROUPS if f" {name} " in shown} == GROUPS
    summary = shown.split("Options")[0]
    for thing in ("topics", "buckets", "tick", "dead letters", "skipped highlights", "schemas"):
        assert thing in summary


@pytest.mark.parametrize(
    "command",
    [
        ["topics", "create"],
        ["tick"],
        ["dlq", "list"],
        ["dlq", "show", "highlight-detected"],
        ["dlq", "replay", "highlight-detected", "--yes"],
        ["dlq", "show", "nonsense"],
        ["skips", "list"],
        ["skips", "replay", "--yes"],
    ],
)
def test_an_error_is_one_line(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clip_shared", *command],
        env={"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "127.0.0.1:1" in line or "nonsense has no dead letters" in line
