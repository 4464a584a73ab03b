"""What is said on a machine that cannot run Apache Kafka, and that no jar but the locked ones is taken."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack import kafka_jars
from local_stack.kafka_jars import BrokerUnavailable, bring_jars, find_java

JAVA = """echo 'openjdk version "{}" 2026-01-01' >&2"""


class Machine:
    """What is on PATH."""

    def __init__(self, folder: Path) -> None:
        self._programs = folder / "programs"
        self._programs.mkdir()
        self.share = folder / "environment" / "share"
        self.share.parent.mkdir()

    def has(self, program: str, script: str) -> None:
        file = self._programs / program
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    @property
    def path(self) -> str:
        return str(self._programs)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", machine.path)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(sys, "prefix", str(machine.share.parent))
    find_java.cache_clear()
    yield machine
    find_java.cache_clear()


def brings(*jars: str) -> str:
    """A Maven that brings empty jars."""
    folder = 'for word; do case "$word" in -DoutputDirectory=*) folder="${word#*=}";; esac; done; '
    return folder + '/bin/mkdir -p "$folder"; ' + "; ".join(f': > "$folder/{jar}"' for jar in jars)


def lock(monkeypatch: pytest.MonkeyPatch, file: Path, *jars: str) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    file.write_text("".join(f"{digest}  {jar}\n" for jar in jars))
    monkeypatch.setattr(kafka_jars, "_CHECKSUMS", file)


def test_no_java(machine: Machine) -> None:
    with pytest.raises(BrokerUnavailable, match=r"no Java in PATH\. .*apt-get install"):
        bring_jars()
    assert list(machine.share.iterdir()) == []


def test_java_is_too_old(machine: Machine) -> None:
    machine.has("java", JAVA.format("11.0.2"))
    with pytest.raises(BrokerUnavailable, match=r'too old: openjdk version "11\.0\.2"'):
        find_java()


def test_java_of_java_home_wins(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has("java", JAVA.format("11.0.2"))
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("#!/bin/sh\n" + JAVA.format("21"))
    (home / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert find_java() == home / "bin" / "java"


def test_no_maven(machine: Machine) -> None:
    machine.has("java", JAVA.format("17.0.1"))
    with pytest.raises(BrokerUnavailable, match=r"no Maven \(mvn\) in PATH\. .*apt-get install"):
        bring_jars()


def test_maven_fails(machine: Machine) -> None:
    machine.has("java", JAVA.format("17.0.1"))
    machine.has("mvn", "echo '[ERROR] no route to host'; exit 1")
    with pytest.raises(BrokerUnavailable, match=r"could not bring Apache Kafka:\n.*no route to host"):
        bring_jars()
    assert list(machine.share.iterdir()) == []


def test_what_was_locked_is_brought_once(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has("java", JAVA.format("17.0.1"))
    machine.has("mvn", brings("a.jar", "b.jar"))
    lock(monkeypatch, tmp_path / "sha256", "a.jar", "b.jar")
    folder = bring_jars()
    assert sorted(jar.name for jar in folder.iterdir()) == ["a.jar", "b.jar"]
    assert list(machine.share.iterdir()) == [folder]
    machine.has("mvn", "exit 1")
    assert bring_jars() == folder


@pytest.mark.parametrize("brought", [("a.jar",), ("a.jar", "b.jar", "c.jar")])
def test_other_jars_than_the_locked_ones_are_refused(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: tuple[str, ...]
) -> None:
    machine.has("java", JAVA.format("17.0.1"))
    machine.has("mvn", brings(*brought))
    lock(monkeypatch, tmp_path / "sha256", "a.jar", "b.jar")
    with pytest.raises(BrokerUnavailable, match=r"other jars than sha256 has: [bc]\.jar$"):
        bring_jars()
    assert list(machine.share.iterdir()) == []


@pytest.mark.parametrize("command", ["up", "demo"])
@pytest.mark.parametrize(("wish", "said"), [("apache", "apt-get install"), ("apashe", "embedded, apache")])
def test_the_command_line_says_so_before_it_starts_anything(
    machine: Machine, tmp_path: Path, command: str, wish: str, said: str
) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "local_stack", "--state", str(tmp_path / "state"), command],
        env={**os.environ, "PATH": machine.path, "KAFKA": wish},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout.strip()) == (2, "")
    assert said in answer.stderr
    assert not (tmp_path / "state").exists()
