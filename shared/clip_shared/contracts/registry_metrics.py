"""Metrics of the calls to the registry: how long an attempt takes, and how it ends."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Histogram

from clip_shared import tracing
from clip_shared.refused_connections import Cause, OnRefused, certificate_cause, uncounted


class CallOutcome(StrEnum):
    """How an attempt ended: with success, with a refusal (4xx), or with an error (5xx) or no answer."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"

    @classmethod
    def of(cls, status: int | None) -> "CallOutcome":
        """Return the outcome for an HTTP status; None: no answer came."""
        if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return cls.FAILED
        return cls.REFUSED if status >= HTTPStatus.BAD_REQUEST else cls.ANSWERED


class CallAttempt:
    """One attempt at a call. ``status``: the HTTP status of the answer; None until the answer is here."""

    status: int | None = None


class RegistryCallMetrics:
    """Measures calls.

    Args:
        registry: where the metric is exported.
        calls: the names of all calls that the service makes: each is exported from the start.
        on_refused: called when the registry refuses our token, or its certificate is not good.
    """

    def __init__(
        self, registry: CollectorRegistry, calls: Iterable[str] = (), on_refused: OnRefused = uncounted
    ) -> None:
        self._on_refused = on_refused
        self._seconds = Histogram(
            "clips_registry_call_seconds",
            "Duration of an attempt at a call to the registry, by call and by outcome: answered, refused"
            " (4xx), failed (5xx or no answer).",
            ["call", "outcome"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
            registry=registry,
        )
        for call in calls:
            for outcome in CallOutcome:
                self._seconds.labels(call, outcome)

    @contextmanager
    def attempt(self, call: str) -> Iterator[CallAttempt]:
        """Measure one attempt. Set the ``status`` of what is yielded when the answer is here."""
        attempt, started = CallAttempt(), time.perf_counter()
        try:
            yield attempt
        except Exception as error:
            if (cause := certificate_cause(error)) is not None:
                self._on_refused(cause)
            raise
        finally:
            outcome = CallOutcome.of(attempt.status)
            seconds = time.perf_counter() - started
            self._seconds.labels(call, outcome).observe(seconds, tracing.exemplar())
            if attempt.status == HTTPStatus.UNAUTHORIZED:
                self._on_refused(Cause.CREDENTIALS)
