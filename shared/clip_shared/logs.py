"""JSON logs on standard output, one object a line, the same fields in every service.

``structlog.get_logger()`` anywhere; ``event_id``, ``clip_id``, ``topic`` and ``trace_id`` are bound by the
bus for as long as a message is handled; where tracing is on, ``trace_id`` and ``span_id`` are in every line
that belongs to a span. Records of libraries (``logging``), warnings and uncaught exceptions pass through the
same renderer: a running service writes nothing to standard error.
"""

import logging
import sys
import threading
from typing import Any

import structlog

from clip_shared import tracing

# Libraries whose ordinary lines say nothing that ours do not.
_QUIET = (
    *("faststream", "aiokafka", "botocore", "boto3", "s3transfer", "urllib3", "httpx", "httpcore"),
    "opentelemetry",
)


def configure_logs(service: str, level: str) -> None:
    """Send every log line of this process to standard output as JSON.

    Args:
        service: the name in the field ``service``.
        level: the least level shown, as in :mod:`logging`.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    _take_over_loggers()
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.ERROR, root.level))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _take_over_loggers() -> None:
    """Take the handlers away that libraries gave their loggers: FastStream does so when it is imported."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), traceback)
        return
    logging.getLogger("uncaught").critical(
        "an exception was not caught", exc_info=(kind, error or kind(), traceback)
    )


def _add_trace(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    event.update(tracing.ids())
    return event


def _add_service(service: str) -> structlog.types.Processor:
    def add(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event["service"] = service
        return event

    return add
