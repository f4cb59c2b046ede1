"""What the service did, as a chain of records in an append-only file: each names the digest of the one before.

A record holds digests, versions, counts and identifiers of this service's own making; of a stay it holds HMACs alone,
under a random key that the stay's store keeps and deletion destroys. The chain still verifies afterwards, and nobody
can say any more whose records they are. A record is written before the answer that it tells of is sent: a process that
is killed has told all that it answered. It reaches the disk within `flush_s`; a loss of power may cost that much.

From a record back to its answer: the artifact by `digest`, the stay by `stay`, its facts by their `revision`, which
`change` proves to be those of then. `docs/security.md` shows the steps.
"""

from __future__ import annotations

import hmac
import logging
import os
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from service.audit_chain import GENESIS, ChainFile, link
from service.errors import Problem, ProblemKind
from service.logs import Event, log_event, utc_text

FLUSH_S = 1.0


class AuditEvent(StrEnum):
    """What a record tells of."""

    STARTED = "started"
    STOPPED = "stopped"
    RECOVERED = "recovered"
    SCORED = "scored"
    ADMITTED = "admitted"
    OBSERVED = "observed"
    CORRECTED = "corrected"
    WITHDRAWN = "withdrawn"
    REPEATED = "repeated"
    VIEWED = "viewed"
    DELETED = "deleted"
    EXPIRED = "expired"
    SWAPPED = "swapped"
    ROLLED_BACK = "rolled_back"
    MODEL_REFUSED = "model_refused"
    SHADOWED = "shadowed"


@dataclass(frozen=True)
class StaySeal:
    """What turns a stay's data into HMACs that only who has the stay can make again; kept with a stay in memory.

    Args:
        stay_id: the sender's identifier.
        secret: the stay's random key.
    """

    stay_id: str
    secret: bytes

    @cached_property
    def stay(self) -> str:
        """Stands for the stay in every record of it."""
        return hmac.digest(self.secret, b"stay\0" + self.stay_id.encode("utf-8", "surrogatepass"), "sha256").hex()

    def change(self, content: bytes) -> str:
        """Proves what was accepted."""
        return hmac.digest(self.secret, b"change\0" + content, "sha256").hex()

    def answer(self, risks: Sequence[float]) -> str:
        """Proves what was answered, to the last bit."""
        return hmac.digest(self.secret, b"answer\0" + struct.pack(f"<{len(risks)}d", *risks), "sha256").hex()


class Audit(Protocol):
    """Where records go; every method may be called from any thread."""

    def record(
        self,
        event: AuditEvent,
        *,
        request_id: str = "",
        key: str = "",
        digest: str = "",
        version: str = "",
        prediction_id: str = "",
        stay: StaySeal | None = None,
        revision: int | None = None,
        as_of_min: int | None = None,
        risks: Sequence[float] | None = None,
        change: bytes | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Adds one record before it returns.

        Args:
            event: what happened.
            request_id: of the call.
            key: public id of the caller's API key.
            digest: of the artifact that answered.
            version: its version in the registry.
            prediction_id: of the answer.
            stay: the stay concerned; the record holds HMACs of it alone.
            revision: the stay's version in the store after the change.
            as_of_min: minute since admission of the answered score.
            risks: what was answered; the record holds its HMAC alone, and nothing without a stay.
            change: what was accepted, as the store keeps it; the record holds its HMAC alone.
            counts: further numbers, none of them clinical.

        Raises:
            Problem: 503 if the record cannot be written.
        """
        ...

    def close(self) -> None:
        """Writes the last record and ends."""
        ...


class NoAudit:
    """Keeps nothing, for an application that was made without a folder for its audit."""

    def record(self, event: AuditEvent, **facts: object) -> None:
        """Forgets the record."""

    def close(self) -> None:
        """Does nothing."""


class AuditLog:
    """The chain of one process, in a folder that is its own.

    Args:
        folder: where its files lie; created if need be.
        flush_s: how long a record may wait for the disk.

    Raises:
        ConfigError: if another process writes there, or what lies there is no chain.
    """

    def __init__(self, folder: Path, *, flush_s: float = FLUSH_S) -> None:
        self._lock = threading.Lock()
        self._flush_s = flush_s
        self._file = ChainFile(folder)
        self._head, self._count = self._file.head or GENESIS, self._file.count
        self._ended = threading.Event()
        if self._file.torn is not None:
            self._append({"event": str(AuditEvent.RECOVERED), "torn_sha256": self._file.torn})
        self._flusher = threading.Thread(target=self._flush_often, name="audit-flush", daemon=True)
        self._flusher.start()

    @property
    def head(self) -> tuple[int, str]:
        """Number of records, and digest of the last one: note it elsewhere, and nobody can shorten the chain unseen."""
        with self._lock:
            return self._count, self._head

    def record(
        self,
        event: AuditEvent,
        *,
        request_id: str = "",
        key: str = "",
        digest: str = "",
        version: str = "",
        prediction_id: str = "",
        stay: StaySeal | None = None,
        revision: int | None = None,
        as_of_min: int | None = None,
        risks: Sequence[float] | None = None,
        change: bytes | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Adds one record, as `Audit.record` says."""
        facts: dict[str, object] = {
            "event": str(event),
            "request_id": request_id,
            "key": key,
            "digest": digest,
            "version": version,
            "prediction_id": prediction_id,
            "revision": revision,
            "as_of_min": as_of_min,
        }
        facts = {name: value for name, value in facts.items() if value not in ("", None)}
        if stay is not None:
            facts["stay"] = stay.stay
            if change is not None:
                facts["change"] = stay.change(change)
            if risks is not None:
                facts["answer"] = stay.answer(risks)
        if counts:
            facts["counts"] = dict(counts)
        self._append(facts)

    def close(self) -> None:
        """Flushes, says where the chain ends, and lets another process have the folder."""
        self._ended.set()
        self._flusher.join()
        with self._lock:
            self._file.close()
        log_event(Event.AUDIT_HEAD, records=self._count, head=self._head)

    def _append(self, facts: Mapping[str, object]) -> None:
        with self._lock:
            line, head = link(self._head, {"seq": self._count + 1, "time": utc_text(time.time()), **facts})
            try:
                self._file.write(line)
            except OSError as error:
                log_event(Event.AUDIT_FAILED, level=logging.ERROR, error_type=type(error).__name__)
                raise Problem(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    ProblemKind.UNAVAILABLE,
                    "The service cannot keep a record of what it does; it gives no answer until it can.",
                    headers={"Retry-After": "5"},
                ) from None
            self._head, self._count = head, self._count + 1

    def _flush_often(self) -> None:
        while not self._ended.wait(self._flush_s):
            with self._lock:
                descriptor = self._file.duplicate()
            try:
                os.fdatasync(descriptor)
            except OSError as error:
                log_event(Event.AUDIT_FAILED, level=logging.ERROR, error_type=type(error).__name__)
            finally:
                os.close(descriptor)
