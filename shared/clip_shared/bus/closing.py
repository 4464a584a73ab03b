"""Connections are closed within a time limit, whether Kafka answers or not."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

CLOSE_SECONDS = 3.0


async def within(seconds: float, work: Coroutine[Any, Any, None], purpose: str) -> None:
    """Wait up to ``seconds`` for work; then cancel it. It never raises: a failure is logged.

    ``purpose`` completes "Kafka did not answer in time to …".
    """
    task = asyncio.ensure_future(work)
    _, late = await asyncio.wait([task], timeout=seconds)
    if late:
        task.cancel()
        log.warning("Kafka did not answer in time", to=purpose, seconds=seconds)
    elif (error := task.exception()) is not None:
        log.warning("Kafka refused", to=purpose, error=repr(error))
