"""The folder that holds everything of one stack, and the way to make it as if the stack had never run."""

import json
import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

# Every process of a stack carries its folder in this variable: that is how strays are told from strangers.
MARKER = "LOCAL_STACK_STATE"
_INHERITED = ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


class State:
    """A stack's folder.

    ::

        stack.env          addresses and credentials, for people and programs (0600)
        identity.json      ports and secrets, the same at the next start (0600)
        lock               held by the process that runs the stack in the background
        logs/ tmp/         of every process
        postgres/ apache-kafka/ seaweedfs/ scratch/
    """

    def __init__(self, folder: Path) -> None:
        # Resolved: the marker must read the same whatever way leads here.
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.tmp = self.folder / "tmp"
        self.scratch = self.folder / "scratch"
        self.env_file = self.folder / "stack.env"
        self.identity_file = self.folder / "identity.json"
        self._outside_file = self.folder / "outside.txt"

    @classmethod
    def temporary(cls) -> "State":
        """A new folder among the system's temporary files."""
        folder = Path(tempfile.mkdtemp(prefix="clips-stack-"))
        # Others may pass through (PostgreSQL runs as another user when we are root), but not look around.
        folder.chmod(0o711)
        return cls(folder)

    def create(self) -> None:
        """Make the folder and what every process needs in it."""
        for folder in (self.folder, self.logs, self.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        self.logs.chmod(0o700)
        # Programs that run as another user put their temporary files here too.
        self.tmp.chmod(0o1777)

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def environment(self, **more: str) -> dict[str, str]:
        """A child's whole environment: little of ours, so that no setting or proxy of the user's leaks in."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "HOME": str(self.tmp),
            "TMPDIR": str(self.tmp),
            MARKER: str(self.folder),
            **more,
        }

    def note_outside(self, *paths: str) -> None:
        """Remember files that a server makes outside of the folder, for :meth:`sweep`."""
        with self._outside_file.open("a") as file:
            file.writelines(f"{path}\n" for path in paths)

    def sweep(self, *, remove: bool) -> None:
        """End every process that is left of this stack, and remove its traces outside of the folder.

        With ``remove``, the folder goes as well. Safe to repeat.
        """
        self._end_all()
        if self._outside_file.exists():
            for path in self._outside_file.read_text().splitlines():
                Path(path).unlink(missing_ok=True)
            self._outside_file.unlink()
        shutil.rmtree(self.tmp, ignore_errors=True)
        self.env_file.unlink(missing_ok=True)
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end_all(self) -> None:
        """End every process of this stack, again until none is left: one may be forking.

        The kernel has told most of them to end when their parent died; each gets a moment to do so in order.
        """
        for grace_seconds in (1.5, 0, 0, 0):
            strays = [process for process in psutil.process_iter() if self._owns(process)]
            _, stubborn = psutil.wait_procs(strays, timeout=grace_seconds)
            for stray in stubborn:
                with suppress(psutil.NoSuchProcess):
                    stray.kill()
            psutil.wait_procs(stubborn, timeout=5)

    def _owns(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if process.environ().get(MARKER) == str(self.folder):
                return True
            # The cutter gives its tools next to no environment, but a file on scratch to work on.
            return any(str(self.scratch) in argument for argument in process.cmdline())
        except psutil.Error:
            # Gone already, or another user's.
            return False


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, so that readers see all of it or none."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is no file, or only a broken piece of one."""
    with suppress(FileNotFoundError, json.JSONDecodeError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}
