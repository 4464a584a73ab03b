import stat
from pathlib import Path

import pytest

from local_stack.processes.state import MARKER, State, read_json, write_private
from local_stack.processes.workspace import Workspace


def test_a_child_inherits_no_setting_and_no_proxy_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    environment = State(tmp_path).environment(HTTP_PORT="1")
    assert {"HTTP_PROXY", "LOG_LEVEL"}.isdisjoint(environment)
    assert environment["HTTP_PORT"] == "1"
    assert environment[MARKER] == str(tmp_path)


def test_the_sweep_removes_files_outside_the_folder(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.create()
    outside = tmp_path / "a.sock"
    outside.touch()
    state.note_outside(str(outside), str(tmp_path / "never-made.sock"))
    state.sweep(remove=False)
    assert not outside.exists()
    assert state.logs.exists()
    state.sweep(remove=True)
    assert not state.folder.exists()


def test_a_private_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "stack.env"
    write_private(path, "old")
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1'])
def test_a_broken_file_reads_as_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "identity.json"
    assert read_json(path) == {}
    path.write_text(text)
    assert read_json(path) == {}


def test_a_workspace_keeps_its_secrets_and_ports(tmp_path: Path) -> None:
    first = Workspace(tmp_path)
    secret, port = first.secret("postgres"), first.ports.claim("kafka")
    first.save()
    first.ports.release()
    again = Workspace(tmp_path)
    assert again.secret("postgres") == secret
    assert again.ports.claim("kafka") == port
    again.ports.release()
