"""Run blocking work in a thread, and wait for it even when the caller is cancelled."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def in_thread(
    work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run ``work`` in a thread. If the caller is cancelled, wait for ``work`` to end first.

    ``asyncio.to_thread`` returns at once when it is cancelled, and the thread goes on: it would write into
    the job's folder while the folder is being removed.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # retrieved, so that asyncio does not log it: the cancellation matters more
        raise
