"""From events to JSON lines on standard error that hold allow-listed fields and nothing else.

No line holds a message that was formatted elsewhere: an exception's text, a path or a library's warning
may carry a patient's data. What a line says is an event of this module, and fields that it names.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import orjson

LOGGER = logging.getLogger("service")
DELAY_S = 0.1
MAX_WAITING = 1000


class Event(StrEnum):
    """What a line is about."""

    LISTENING = "listening"
    STOPPED = "stopped"
    MODEL_LOADED = "model_loaded"
    MODEL_REFUSED = "model_refused"
    MODEL_SWITCHED = "model_switched"
    MODEL_ROLLED_BACK = "model_rolled_back"
    STAYS_SWITCHED = "stays_switched"
    SHADOW_STARTED = "shadow_started"
    SHADOW_ENDED = "shadow_ended"
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
    STORE_FAILED = "store_failed"


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
        "documents",
        "characters",
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
        "compared",
        "difference_mean",
        "difference_max",
        "stays",
    }
)


class JsonFormatter(logging.Formatter):
    """One JSON object a record; a record of another library keeps its logger's name and error type alone."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        event = getattr(record, "event", None)
        level = record.levelname.lower()
        if isinstance(event, Event):
            lines = getattr(record, "lines", None) or [(record.created, getattr(record, "fields", {}))]
            return "\n".join(_line(at, level, event, fields) for at, fields in lines)
        fields = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            fields["error_type"] = record.exc_info[0].__name__
        return _line(record.created, level, Event.THIRD_PARTY, fields)


def _line(at: float, level: str, event: Event, fields: Mapping[str, object]) -> str:
    known = {name: value for name, value in fields.items() if name in FIELDS}
    return orjson.dumps({"time": utc_text(at), "level": level, "event": event, **known}).decode()


class RequestLines:
    """Collects the facts of requests and logs many of them as one record, which costs far less than one each.

    A line waits a tenth of a second at most; what a killed process had not written is lost, and the audit, which is
    written before an answer is sent, is not.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Mapping[str, object]]] = []

    def add(self, facts: Mapping[str, object]) -> None:
        """Takes one request's facts; from the event loop alone."""
        self._waiting.append((time.time(), facts))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(DELAY_S, self.flush)
        elif len(self._waiting) >= MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Logs what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting and LOGGER.isEnabledFor(logging.INFO):
            LOGGER.handle(_record(Event.REQUEST, logging.INFO, {}, lines=waiting))


def utc_text(seconds: float) -> str:
    """A Unix time as RFC 3339 text, to the millisecond."""
    whole = int(seconds)
    return f"{_utc_second(whole)}.{int(1000 * (seconds - whole)):03d}+00:00"


@lru_cache(maxsize=4)
def _utc_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


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
        LOGGER.handle(_record(event, level, fields))


def _record(event: Event, level: int, fields: Mapping[str, object], **more: object) -> logging.LogRecord:
    # Made here, because the logger's own way looks for the calling line, which costs more than all the rest.
    record = logging.LogRecord(LOGGER.name, level, "", 0, event, None, None)
    vars(record).update(event=event, fields=fields, **more)
    return record


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
