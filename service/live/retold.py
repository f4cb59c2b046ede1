"""Answers told again in, a record of each out before it is sent: repeated calls, event streams, and stays as viewed.

A record of the first answer may be missing, where the audit failed after the store had kept it: what tells it again is
recorded for itself, with all that finds and proves it.
"""

from __future__ import annotations

import orjson

from service.audit import Audit, AuditEvent, StaySeal
from service.live.journal import Answered, answer_in
from service.live.refusals import no_such_stay
from service.live.store import Entry, Kept, StayStore


class Retold:
    """Records what one caller is told again.

    Args:
        audit: where records go.
        request_id: of the call.
        key: id of the caller's API key.
    """

    def __init__(self, audit: Audit, request_id: str, key: str) -> None:
        self._audit, self._request_id, self._key = audit, request_id, key

    def entry(self, seal: StaySeal, entry: Entry) -> Answered:
        """The answer that an entry holds, recorded.

        Raises:
            ArtifactError: if the entry is none that this release reads.
            Problem: 503 if the record cannot be written.
        """
        answered = answer_in(entry)
        self._audit.record(
            AuditEvent.REPEATED,
            request_id=self._request_id,
            key=self._key,
            digest=answered.digest,
            version=answered.model_version or "",
            prediction_id=answered.prediction_id,
            stay=seal,
            revision=entry.version,
            as_of_min=answered.as_of_min,
            risks=answered.values,
            change=entry.payload,
        )
        return answered

    def view(self, seal: StaySeal, answered: Answered, trajectory: list[list[float]]) -> None:
        """Records a stay as it is shown.

        Args:
            seal: the stay's.
            answered: model, revision and minute of what is shown.
            trajectory: (time steps, outputs) risks; their HMAC covers all of them, step by step.

        Raises:
            Problem: 503 if the record cannot be written.
        """
        self._audit.record(
            AuditEvent.VIEWED,
            request_id=self._request_id,
            key=self._key,
            digest=answered.digest,
            version=answered.model_version or "",
            stay=seal,
            revision=answered.version,
            as_of_min=answered.as_of_min,
            risks=[risk for step in trajectory for risk in step],
        )

    async def call(self, store: StayStore, stay_id: str, kept: Kept) -> None:
        """Records the answer of an earlier call with the same key.

        Raises:
            Problem: 404 if the stay is gone, 503 if the record cannot be written.
            StoreError: if the store fails.
        """
        head = await store.head(stay_id)
        revision = int(orjson.loads(kept.content)["revision"])
        entries = [] if head is None else await store.entries(head.number, after=revision - 1)
        if head is None or not entries:
            raise no_such_stay()
        self.entry(StaySeal(head.stay_id, head.secret), entries[0])
