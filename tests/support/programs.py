"""The programs that stand in ``docs/integrating.md``, as files that run.

Those in Java need a compiler, and the Java of the wheel has none. Eclipse's is one jar, fetched once and held
to the checksum in ``ecj.sha256``.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from local_stack.servers.kafka_jars import bring_jars, find_java

PAGE = Path(__file__).parents[2] / "docs" / "integrating.md"
LEAST_JAVA = "17"  # as the page says
COMPILE_SECONDS = 100
_CHECKSUMS = Path(__file__).with_name("ecj.sha256")
_BLOCK = re.compile(r"^```(?:python|java)\n((?:#|//) ([\w.]+): .*?)^```$", re.MULTILINE | re.DOTALL)
_JVM = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"


def texts() -> dict[str, str]:
    """Every program by its file name, in the order of the page."""
    return {name: text for text, name in _BLOCK.findall(PAGE.read_text())}


def write_all(folder: Path) -> None:
    """Write every program into a folder, and compile those that have to be."""
    for name, text in texts().items():
        (folder / name).write_text(text)
    _compile(folder.glob("*.java"), folder)


def words(name: str, folder: Path) -> list[str]:
    """What starts a program."""
    file = folder / name
    if file.suffix == ".py":
        return [sys.executable, str(file)]
    return [*_java([folder, *bring_jars()]), file.stem]


def _compile(files: Iterable[Path], folder: Path) -> None:
    options = ["-proc:none", "-source", LEAST_JAVA, "-target", LEAST_JAVA, "-cp", _joined(bring_jars())]
    compiler = [*_java(bring_jars(checksums=_CHECKSUMS, name="ecj")), _COMPILER]
    said = subprocess.run(
        [*compiler, *options, "-d", str(folder), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS,
        check=False,
    )
    assert said.returncode == 0, said.stderr


def _java(classes: Iterable[Path]) -> list[str]:
    return [str(find_java()), *_JVM, "-cp", _joined(classes)]


def _joined(paths: Iterable[Path]) -> str:
    return ":".join(map(str, paths))
