"""The programs in ``docs/integrating.md``, as files that can be run.

The Java programs need a compiler, which the Java of the wheel does not have. Eclipse's compiler is one jar,
downloaded once and checked against ``ecj.sha256``.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from local_stack.servers.kafka_jars import bring_jars, find_java

PAGE = Path(__file__).parents[2] / "docs" / "integrating.md"
LEAST_JAVA = "17"  # the version that the page names
COMPILE_SECONDS = 100
_CHECKSUMS = Path(__file__).with_name("ecj.sha256")
_BLOCK = re.compile(r"^```(?:python|java)\n((?:#|//) ([\w.]+): .*?)^```$", re.MULTILINE | re.DOTALL)
_JVM = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"


def texts() -> dict[str, str]:
    """Return every program by its file name, in the order of the page."""
    return {name: text for text, name in _BLOCK.findall(PAGE.read_text())}


def write_all(folder: Path) -> None:
    """Write every program into a folder, and compile the Java programs."""
    for name, text in texts().items():
        (folder / name).write_text(text)
    _compile(folder.glob("*.java"), folder)


def words(name: str, folder: Path) -> list[str]:
    """Return the command that starts a program."""
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
