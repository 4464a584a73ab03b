"""Calls to the registry, as SREs see them: how long they take, and how they end."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Histogram

from clip_shared import tracing
from clip_shared.refused_connections import Cause, OnRefused, certificate_trouble, uncounted


class Outcome(StrEnum):
    """How a call ended: with what was asked for; with a refusal (4xx); with an error (5xx) or no answer."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"

    @classmethod
    def of(cls, status: int | None) -> "Outcome":
        """The outcome of an HTTP status; None: there was no answer."""
        if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return cls.FAILED
        return cls.REFUSED if status >= HTTPStatus.BAD_REQUEST else cls.ANSWERED


class Answered:
    """What a call brought. ``status``: of the answer; None as long as there is none."""

    status: int | None = None


class RegistryCalls:
    """Times calls. ``calls`` are the names of all that a service makes; each attempt counts."""

    def __init__(
        self, registry: CollectorRegistry, calls: Iterable[str], on_refused: OnRefused = uncounted
    ) -> None:
        self._on_refused = on_refused
        self._seconds = Histogram(
            "clips_registry_call_seconds",
            "Time of an attempt at a call to the registry, by the call and by how it ended: answered, refused"
            " (4xx), failed (5xx or no answer).",
            ["call", "outcome"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
            registry=registry,
        )
        for call in calls:
            for outcome in Outcome:
                self._seconds.labels(call, outcome)

    @contextmanager
    def timed(self, call: str) -> Iterator[Answered]:
        """Time one attempt: set the status of what is yielded when the answer is there."""
        answered, started = Answered(), time.perf_counter()
        try:
            yield answered
        except Exception as error:
            if (cause := certificate_trouble(error)) is not None:
                self._on_refused(cause)
            raise
        finally:
            outcome = Outcome.of(answered.status)
            seconds = time.perf_counter() - started
            self._seconds.labels(call, outcome).observe(seconds, tracing.exemplar())
            if answered.status == HTTPStatus.UNAUTHORIZED:
                self._on_refused(Cause.CREDENTIALS)
