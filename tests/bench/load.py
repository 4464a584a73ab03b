"""Send requests to a server over open connections: as many as it answers, or at a steady rate.

The client costs a tenth of what the servers under test do: it writes requests that were made beforehand, and
reads of the answers what it needs to know where they end.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import cast

from httptools import HttpResponseParser

PATIENCE_SECONDS = 30.0


@dataclass
class Answers:
    """The seconds of each request, the number of answers by status, and the seconds of the run."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    duration: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.seconds) / self.duration

    def only(self, status: int) -> bool:
        """Return whether all answers, and at least one, had this status."""
        return set(self.statuses) == {status}


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._answered: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        assert self._answered is not None
        self._answered.set_result(self._parser.get_status_code())
        self._parser = HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> int:
        """Send a request; return the status of its answer."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


def request(method: str, path: str, token: str | None = None) -> bytes:
    """Return the bytes of a request without a body."""
    headers = ["Host: bench", "Accept: */*", *([f"Authorization: Bearer {token}"] if token else [])]
    length = ["Content-Length: 0"] if method == "POST" else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", *headers, *length, "", ""]).encode()


class Load:
    """Open connections to a server, as a context manager."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._count = connections
        self._connections: list[_Connection] = []

    async def __aenter__(self) -> "Load":
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
            self._connections.append(connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    async def as_many(self, requests: Sequence[bytes], seconds: float) -> Answers:
        """Send the next request on a connection as soon as its answer has arrived."""
        answers, texts = Answers(), cycle(requests)
        began = time.perf_counter()

        async def ask(connection: _Connection) -> None:
            while time.perf_counter() - began < seconds:
                await self._ask(connection, texts, time.perf_counter(), answers)

        async with asyncio.timeout(seconds + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            for connection in self._connections:
                group.create_task(ask(connection))
        answers.duration = time.perf_counter() - began
        return answers

    async def at_pace(self, requests: Sequence[bytes], rate: float, seconds: float) -> Answers:
        """Send requests at a rate per second. The wait for a free connection is counted."""
        answers, texts = Answers(), cycle(requests)
        free: asyncio.Queue[_Connection] = asyncio.Queue()
        for connection in self._connections:
            free.put_nowait(connection)

        async def ask(due: float) -> None:
            due = min(due, time.perf_counter())  # uvloop may wake a millisecond early
            connection = await free.get()
            await self._ask(connection, texts, due, answers)
            free.put_nowait(connection)

        began = time.perf_counter()
        async with asyncio.timeout(seconds + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                if (pause := due - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
                group.create_task(ask(due))
        answers.duration = time.perf_counter() - began
        return answers

    @staticmethod
    async def _ask(connection: _Connection, texts: Iterator[bytes], since: float, answers: Answers) -> None:
        status = await connection.ask(next(texts))
        answers.seconds.append(time.perf_counter() - since)
        answers.statuses[status] = answers.statuses.get(status, 0) + 1
