"""A server in a thread and loop of its own, for tests that block while they ask it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
START_SECONDS = 90


@contextmanager
def served(serve: Callable[["Future[T]", asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[T]:
    """Run ``serve(found, stop)``, and yield what it sets ``found`` to; it goes on until ``stop`` is set.

    What goes wrong before that is raised here.
    """
    found: Future[T] = Future()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        try:
            await serve(found, stop)
        except BaseException as error:
            if found.done():
                raise
            found.set_exception(error)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        yield found.result(START_SECONDS)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
