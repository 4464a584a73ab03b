"""An orderly end on signals."""

import signal
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_on_signals() -> None:
    """Have the first Ctrl-C, SIGTERM or SIGHUP raise SystemExit, so that all contexts are left.

    Further signals are ignored: the clean-up is quick, and must not be interrupted.
    """
    for number in _ENDING:
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    # What shells expect of a program that a signal ended.
    raise SystemExit(128 + number)
