"""The deadline of a handler: what takes longer is ended. Publishing extends it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from clip_shared.errors import DeadlineExceeded

_current: ContextVar[asyncio.Timeout | None] = ContextVar("_current", default=None)


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Cancel the work in this context after ``seconds``.

    Raises:
        DeadlineExceeded: the work took longer than ``seconds``, and than what extended it.
    """
    try:
        async with asyncio.timeout(seconds) as timeout:
            token = _current.set(timeout)
            try:
                yield
            finally:
                _current.reset(token)
    except TimeoutError as error:
        if timeout.expired():
            raise DeadlineExceeded(f"it took longer than {seconds:g} s") from error
        raise


def extend_deadline(seconds: float) -> None:
    """Let the handler at work go on for at least ``seconds`` from now: it waits for Kafka."""
    timeout = _current.get()
    if timeout is not None and not timeout.expired() and (when := timeout.when()) is not None:
        timeout.reschedule(max(when, asyncio.get_running_loop().time() + seconds))
