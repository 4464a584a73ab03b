"""Free loopback ports, held for as long as this process lives.

A port that is free when asked for may be taken before the server that it is meant for listens on it. So a
port is *held* by a UDP socket on the same number: the servers speak TCP, so both fit side by side, every
other stack on the machine sees the hold, and the kernel drops it when this process dies, however it dies.
"""

import http.client
import secrets
import socket
from collections.abc import Iterator, Mapping
from typing import Self

LOOPBACK = "127.0.0.1"
# Below the ports that Linux gives to outgoing connections (32768 and up), so that none of those takes ours.
LOWEST, HIGHEST = 15_000, 32_000
# SeaweedFS's parts find each other's gRPC port by adding this.
TWIN_OFFSET = 10_000
ATTEMPTS = 1_000


class NoFreePort(Exception):
    """Every port of the range is taken."""


class Ports:
    """The ports of one stack, by name.

    ``wanted`` are ports to prefer, so that a stack keeps its addresses from one start to the next.
    """

    def __init__(self, wanted: Mapping[str, int] | None = None) -> None:
        self._wanted = dict(wanted or {})
        self._holds: list[socket.socket] = []
        self.taken: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def claim(self, name: str) -> int:
        """Return a free port, held under a name.

        Raises:
            NoFreePort: no port between LOWEST and HIGHEST is free.
        """
        return self._claim(name, (0,))

    def claim_with_twin(self, name: str) -> int:
        """Return a free port whose number + ``TWIN_OFFSET`` is free too; both are held."""
        return self._claim(name, (0, TWIN_OFFSET))

    def release(self) -> None:
        """Release every port."""
        for hold in self._holds:
            hold.close()
        self._holds.clear()
        self.taken.clear()

    def _claim(self, name: str, offsets: tuple[int, ...]) -> int:
        for port in self._candidates(name, HIGHEST - offsets[-1]):
            if self._hold_all([port + offset for offset in offsets]):
                self.taken[name] = port
                return port
        raise NoFreePort(f"no free port for {name} between {LOWEST} and {HIGHEST} on {LOOPBACK}")

    def _candidates(self, name: str, highest: int) -> Iterator[int]:
        if name in self._wanted:
            yield self._wanted[name]
        # Random, so that stacks that start together rarely try the same port.
        yield from (LOWEST + secrets.randbelow(highest - LOWEST) for _ in range(ATTEMPTS))

    def _hold_all(self, ports: list[int]) -> bool:
        holds: list[socket.socket] = []
        try:
            for port in ports:
                holds.append(_hold(port))
                _check_free(port)
        except OSError:
            for hold in holds:
                hold.close()
            return False
        self._holds += holds
        return True


def listener_error(port: int) -> str | None:
    """Return None when a loopback port accepts TCP connections, else the reason why it does not."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError as error:
        return f"port {port}: {error}"
    return None


def http_error(url: str) -> str | None:
    """Return None when ``http://host:port/path`` answers 200, else the answer or the connection's error."""
    address, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return str(error)
    finally:
        connection.close()
    return None if answer.status == http.client.OK else body


def _hold(port: int) -> socket.socket:
    hold = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        hold.bind((LOOPBACK, port))
    except OSError:
        hold.close()
        raise
    return hold


def _check_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier server in TIME_WAIT do not matter: servers set this option too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
