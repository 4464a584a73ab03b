"""Clean up after a stack when the process that runs it cannot.

The kernel ends a stack's direct children when their parent dies, but not what those started, and it removes
no files. So each stack has a guardian: a process that waits at the end of a pipe. The pipe closes when the
stack stops, and also when its process is killed with SIGKILL; in both cases the guardian cleans up.
"""

import signal
import subprocess
import sys
from pathlib import Path

from local_stack.processes.state import State

_REMOVE = "--remove"
_SWEEP_SECONDS = 30


class Guardian:
    """Clean up a stack when :meth:`stop` is called, or when this process dies.

    With ``remove``, the state folder is deleted as well.
    """

    def __init__(self, state: State, *, remove: bool) -> None:
        self._arguments = [str(state.folder), *([_REMOVE] if remove else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the guardian's process, which waits for the end of its standard input."""
        self._process = subprocess.Popen(  # noqa: S603 - this very module
            [sys.executable, "-m", "local_stack.processes.guardian", *self._arguments],
            stdin=subprocess.PIPE,
            # A session of its own: Ctrl-C in the terminal does not reach it.
            start_new_session=True,
        )

    def stop(self) -> None:
        """Let the guardian clean up now, and return when it is done."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=_SWEEP_SECONDS)
            self._process = None


def main(folder: str, *flags: str) -> None:
    """Wait for the end of standard input, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    State(Path(folder)).sweep(remove=_REMOVE in flags)


if __name__ == "__main__":
    main(*sys.argv[1:])
