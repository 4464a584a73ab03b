"""Connections and calls that fail because of credentials or a certificate.

An invalid token, key, password or certificate: a retry cannot mend it, only a person can. An adapter reports
it to :class:`RefusedConnections`, and raises its error as well.
"""

import ssl
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter


class System(StrEnum):
    """A system that may refuse a service. ``STORAGE`` has the clips, ``SOURCE_STORAGE`` the VODs."""

    KAFKA = "kafka"
    REGISTRY = "registry"
    STORAGE = "storage"
    SOURCE_STORAGE = "source_storage"
    DATABASE = "database"
    JWKS = "jwks"


class Cause(StrEnum):
    """What is invalid: our token, key or password; or a certificate, theirs or ours."""

    CREDENTIALS = "credentials"
    CERTIFICATE = "certificate"


OnRefused = Callable[[Cause], None]


class RefusedConnections:
    """Counts refused connections. ``systems``: those that the service talks to."""

    def __init__(self, registry: CollectorRegistry, systems: Iterable[System]) -> None:
        self._refused = Counter(
            "clips_connection_refused",
            "Connections and calls that another system refused because of our token, key or password"
            " (credentials), or because of a certificate, theirs or ours (certificate).",
            ["system", "reason"],
            registry=registry,
        )
        for system in systems:
            for cause in Cause:
                self._refused.labels(system, cause)

    def of(self, system: System) -> OnRefused:
        """Return the function that an adapter of ``system`` calls when it is refused."""
        return lambda cause: self._refused.labels(system, cause).inc()


def uncounted(_cause: Cause) -> None:
    """Count nothing: for commands, which print the error and end."""


def certificate_cause(error: BaseException) -> Cause | None:
    """Return CERTIFICATE where an error, or what it came from, is about a certificate."""
    return Cause.CERTIFICATE if any(map(_is_about_certificate, _chain(error))) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _is_about_certificate(error: BaseException) -> bool:
    if not isinstance(error, ssl.SSLError):
        return False
    # A server that refuses our certificate sends an alert: bad_certificate, unknown_ca, …
    alert = (getattr(error, "reason", None) or "").upper()  # aiohttp's errors lack it
    return isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE" in alert or "_CA" in alert
