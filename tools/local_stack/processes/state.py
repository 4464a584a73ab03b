"""The folder of one stack, and the clean-up of its processes and files."""

import json
import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

# Every process of a stack has its folder in this variable: so its leftovers are found.
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
        # Resolved: the variable must have the same value for every path that leads to the folder.
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.tmp = self.folder / "tmp"
        self.scratch = self.folder / "scratch"
        self.env_file = self.folder / "stack.env"
        self.identity_file = self.folder / "identity.json"
        self._outside_file = self.folder / "outside.txt"

    @classmethod
    def temporary(cls) -> "State":
        """Return the state of a stack in a new temporary folder."""
        folder = Path(tempfile.mkdtemp(prefix="clips-stack-"))
        # Other users may enter it (PostgreSQL runs as another user when we are root), but not list it.
        folder.chmod(0o711)
        return cls(folder)

    def create(self) -> None:
        """Create the folder, and in it the folders that every process needs."""
        for folder in (self.folder, self.logs, self.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        self.logs.chmod(0o700)
        # Programs that run as another user put their temporary files here too.
        self.tmp.chmod(0o1777)

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.logs / f"{name}.log"

    def environment(self, **more: str) -> dict[str, str]:
        """Return a child's whole environment, without the user's own settings and proxies."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "HOME": str(self.tmp),
            "TMPDIR": str(self.tmp),
            MARKER: str(self.folder),
            **more,
        }

    def note_outside(self, *paths: str) -> None:
        """Record files that a server creates outside of the folder, for :meth:`sweep`."""
        with self._outside_file.open("a") as file:
            file.writelines(f"{path}\n" for path in paths)

    def sweep(self, *, remove: bool) -> None:
        """Kill every process that is left of this stack, and delete its files outside of the folder.

        With ``remove``, delete the folder as well. Safe to repeat.
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
        """Kill the processes of this stack until no process is left: one may be forking.

        The kernel has told most of them to end when their parent died; they get a short time to do so.
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
            # ffmpeg has almost no environment; the file on scratch in its arguments identifies its stack.
            return any(str(self.scratch) in argument for argument in process.cmdline())
        except psutil.Error:
            # It has ended, or belongs to another user.
            return False


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read. The write is atomic."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; an empty one where the file is missing or damaged."""
    with suppress(FileNotFoundError, json.JSONDecodeError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}
