"""The workspace of a stack: a folder, ports, secrets, and a guardian that cleans up."""

import json
import secrets
from pathlib import Path
from typing import Self

from local_stack.processes.guardian import Guardian
from local_stack.processes.ports import Ports
from local_stack.processes.state import State, read_json, write_private


class Workspace:
    """The folder, ports and secrets of one stack, as a context manager.

    With a folder, the data stays there, and ports and secrets are the same at the next start. Without one,
    the folder is temporary and deleted at the end.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.temporary = folder is None
        self.state = State.temporary() if folder is None else State(folder)
        known = read_json(self.state.identity_file)
        self.ports = Ports(known.get("ports"))
        self._secrets: dict[str, str] = dict(known.get("secrets", {}))
        self._guardian = Guardian(self.state, remove=self.temporary)

    def __enter__(self) -> Self:
        self.state.create()
        self._guardian.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._guardian.stop()
        self.ports.release()

    def secret(self, name: str) -> str:
        """Return a secret of this workspace by its name: random at first, then always the same."""
        return self._secrets.setdefault(name, secrets.token_hex(16))

    def save(self) -> None:
        """Write ports and secrets to the folder. Call it before a server starts to depend on them."""
        identity = {"ports": self.ports.taken, "secrets": self._secrets}
        write_private(self.state.identity_file, json.dumps(identity, indent=2) + "\n")
