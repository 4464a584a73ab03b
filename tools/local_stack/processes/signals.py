"""Leaving in order when told to."""

import signal
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_on_signals() -> None:
    """From now on, the first Ctrl-C, SIGTERM or SIGHUP raises SystemExit, so that all contexts are left.

    Further ones are ignored: cleaning up is quick, and cutting it short would leave things behind.
    """
    for number in _ENDING:
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    # What shells expect of a program that a signal ended.
    raise SystemExit(128 + number)
