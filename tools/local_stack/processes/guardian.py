"""A second pair of hands: cleans up after a stack when the process that runs it cannot.

The kernel ends a stack's direct children when their parent dies, but not what those started, and it removes
no files. So each stack has a guardian: a process that waits at the end of a pipe. The pipe closes when the
stack stops, and just as well when its process is killed with SIGKILL; either way the guardian sweeps.
"""

import signal
import subprocess
import sys
from pathlib import Path

from local_stack.processes.state import State

_REMOVE = "--remove"
_SWEEP_SECONDS = 30


class Guardian:
    """Sweeps a stack's state when :meth:`stop` is called, or when this process dies.

    With ``remove``, the state folder goes as well.
    """

    def __init__(self, state: State, *, remove: bool) -> None:
        self._arguments = [str(state.folder), *([_REMOVE] if remove else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._process = subprocess.Popen(  # noqa: S603 - this very module
            [sys.executable, "-m", "local_stack.processes.guardian", *self._arguments],
            stdin=subprocess.PIPE,
            # Out of reach of the terminal's Ctrl-C.
            start_new_session=True,
        )

    def stop(self) -> None:
        """Let it sweep now, and return when it has."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=_SWEEP_SECONDS)
            self._process = None


def main(folder: str, *flags: str) -> None:
    """Wait for the end of standard input, then sweep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    State(Path(folder)).sweep(remove=_REMOVE in flags)


if __name__ == "__main__":
    main(*sys.argv[1:])
