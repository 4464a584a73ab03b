"""Work in a thread that nothing outlives."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def in_thread(
    work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run ``work`` in a thread, and end no earlier than it does, also when cancelled.

    ``asyncio.to_thread`` returns at once when it is cancelled, and leaves the thread at work. A thread that
    writes into a job's folder would fill it again while it is being removed.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # looked at: the cancellation says more
        raise
