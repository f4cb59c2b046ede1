"""From events to JSON lines on standard error that hold allow-listed fields and nothing else.

No line holds a message that was formatted elsewhere: an exception's text, a path or a library's warning
may carry a patient's data. What a line says is an event of this module, and fields that it names.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType

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
    }
)


class JsonFormatter(logging.Formatter):
    """One JSON object a record; a record of another library keeps its logger's name and error type alone."""

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
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": str(event),
            **{k: v for k, v in fields.items() if k in FIELDS},
        }
        return json.dumps(line, ensure_ascii=False)


def configure_logging() -> None:
    """Sends every logger of the process through the formatter; third parties from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    LOGGER.setLevel(logging.INFO)


def log_event(event: Event, *, level: int = logging.INFO, **fields: str | float | None) -> None:
    """Writes one line; fields that are not allow-listed are left out."""
    LOGGER.log(level, str(event), extra={"event": event, "fields": fields})


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
