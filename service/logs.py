"""From events to JSON lines on standard error that hold allow-listed fields and nothing else.

No line holds a message that was formatted elsewhere: an exception's text, a path or a library's warning
may carry a patient's data. What a line says is an event of this module, and fields that it names.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import orjson

LOGGER = logging.getLogger("service")


class Event(StrEnum):
    """What a line is about."""

    LISTENING = "listening"
    STOPPED = "stopped"
    MODEL_LOADED = "model_loaded"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    REQUEST = "request"
    SCORED = "scored"
    REFUSED = "refused"
    FAILED = "failed"
    THIRD_PARTY = "third_party"
    KEYS_CHANGED = "keys_changed"
    KEYS_UNREADABLE = "keys_unreadable"
    AUDIT_HEAD = "audit_head"
    AUDIT_FAILED = "audit_failed"


FIELDS = frozenset(
    {
        "request_id",
        "prediction_id",
        "route",
        "method",
        "status",
        "duration_ms",
        "observations",
        "notes",
        "steps",
        "rejected",
        "model",
        "version",
        "digest",
        "source",
        "device",
        "host",
        "port",
        "reason",
        "error_type",
        "error_at",
        "logger",
        "key",
        "keys",
        "records",
        "head",
    }
)


class JsonFormatter(logging.Formatter):
    """One JSON object a record; a record of another library keeps its logger's name and error type alone."""

    _second = -1.0
    _date = ""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        event = getattr(record, "event", None)
        fields: dict[str, object] = dict(getattr(record, "fields", {}))
        if not isinstance(event, Event):
            event = Event.THIRD_PARTY
            fields = {"logger": record.name}
            if record.exc_info and record.exc_info[0] is not None:
                fields["error_type"] = record.exc_info[0].__name__
        line = {
            "time": self._moment(record.created),
            "level": record.levelname.lower(),
            "event": event,
            **{k: v for k, v in fields.items() if k in FIELDS},
        }
        return orjson.dumps(line).decode()

    def _moment(self, seconds: float) -> str:
        whole, rest = divmod(seconds, 1.0)
        if whole != self._second:
            self._second, self._date = whole, datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._date}.{int(1000 * rest):03d}+00:00"


def configure_logging() -> None:
    """Sends every logger of the process through the formatter; third parties from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    # No line says which thread or process wrote it, so no record needs to ask.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    LOGGER.setLevel(logging.INFO)


def log_event(event: Event, *, level: int = logging.INFO, **fields: str | float | None) -> None:
    """Writes one line; fields that are not allow-listed are left out."""
    if LOGGER.isEnabledFor(level):
        # Made here, because the logger's own way looks for the calling line, which costs more than all the rest.
        record = logging.LogRecord(LOGGER.name, level, "", 0, event, None, None)
        record.event, record.fields = event, fields
        LOGGER.handle(record)


def log_failure(event: Event, error: BaseException, *, request_id: str) -> None:
    """Writes where an exception came from, without its text."""
    log_event(
        event,
        level=logging.ERROR,
        request_id=request_id,
        error_type=type(error).__name__,
        error_at=_origin(error.__traceback__),
    )


def _origin(traceback: TracebackType | None) -> str:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return ""
    return f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
