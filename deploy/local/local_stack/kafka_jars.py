"""The jars of Apache Kafka: brought by Maven once, each held to the checksum in ``apache_kafka.sha256``.

They are kept in the Python environment, where the wheels' programs are, and go with it. ``python -m
local_stack.kafka_jars`` writes the checksums anew, for a version that ``apache_kafka.pom.xml`` names.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from local_stack.process import ProcessFailed

LEAST_JAVA = 17
_POM = Path(__file__).with_name("apache_kafka.pom.xml")
_CHECKSUMS = Path(__file__).with_name("apache_kafka.sha256")
_VERSION_SECONDS = 30
_DOWNLOAD_SECONDS = 600
_MESSAGE_LINES = 5
_HELP = (
    f"Apache Kafka needs Java {LEAST_JAVA} or newer and Maven; on Debian and Ubuntu:"
    " apt-get install openjdk-17-jre-headless maven."
    " Without KAFKA=apache, everything runs on the embedded broker, which needs neither."
)


class BrokerUnavailable(ProcessFailed):
    """The chosen broker cannot be run on this machine. The message says what to do."""


@cache
def find_java() -> Path:
    """The Java to run: that of JAVA_HOME, else the one on PATH.

    Raises:
        BrokerUnavailable: there is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if found is None:
        raise BrokerUnavailable(f"there is no Java in {home or 'PATH'}. {_HELP}")
    said = subprocess.run(  # noqa: S603 - the machine's own Java
        [found, "-version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
    ).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < LEAST_JAVA:
        raise BrokerUnavailable(f"{found} is too old: {said.partition(chr(10))[0]}. {_HELP}")
    return Path(found)


def bring_jars() -> Path:
    """The folder with all jars; the first call downloads them, which may take a minute.

    Raises:
        BrokerUnavailable: there is no Maven, it failed, or a jar is not the one that was locked.
    """
    checksums = _CHECKSUMS.read_text()
    # Of other jars, another folder.
    name = f"apache-kafka-{hashlib.sha256(checksums.encode()).hexdigest()[:12]}"
    folder = Path(sys.prefix) / "share" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder.parent) as draft:
        jars = Path(draft) / "jars"
        _download(jars)
        _verify(jars, checksums)
        try:
            jars.rename(folder)
        except OSError:
            # Somebody else was quicker?
            if not folder.is_dir():
                raise
    return folder


def lock() -> None:
    """Write down the checksums of what Maven brings for the versions of the POM."""
    with tempfile.TemporaryDirectory() as draft:
        _download(Path(draft))
        _CHECKSUMS.write_text(_checksums(Path(draft)))


def _download(folder: Path) -> None:
    find_java()
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerUnavailable(f"there is no Maven (mvn) in PATH. {_HELP}")
    # Which repository, and through which proxy, is for the machine's own settings to say.
    quiet = ("--batch-mode", "--no-transfer-progress", "--quiet", "-Dstyle.color=never")
    goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}")
    try:
        done = subprocess.run(  # noqa: S603 - the machine's own Maven
            [maven, *quiet, "--strict-checksums", "--file", str(_POM), *goal],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerUnavailable(
            f"Maven did not bring Apache Kafka within {_DOWNLOAD_SECONDS} s. {_HELP}"
        ) from error
    if done.returncode != 0:
        said = "\n".join(done.stdout.splitlines()[:_MESSAGE_LINES])
        raise BrokerUnavailable(f"Maven could not bring Apache Kafka:\n{said}\n{_HELP}")


def _verify(folder: Path, expected: str) -> None:
    wrong = set(_checksums(folder).splitlines()) ^ set(expected.splitlines())
    if wrong:
        names = ", ".join(sorted({line.partition("  ")[2] for line in wrong}))
        raise BrokerUnavailable(f"Maven brought other jars than {_CHECKSUMS.name} has: {names}")


def _checksums(folder: Path) -> str:
    """In the format of sha256sum, by name."""
    lines: list[str] = []
    for jar in sorted(folder.iterdir()):
        with jar.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {jar.name}\n")
    return "".join(lines)


if __name__ == "__main__":
    lock()
