"""Records of the audit in, the answers that they tell of computed again: the models say today what they said then.

A record of a live answer names the stay by an HMAC, the stay's revision, the model's digest and the minute of the
score. While the stay is retained its journal up to that revision holds the facts of then, which the record's `change`
proves, and the values that were answered, which its `answer` proves to the last bit. The artifact of that digest scores
the facts once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.artifact import load_artifact
from models.artifact_folder import verify_digests
from models.errors import ArtifactError, ConfigError
from models.last_step import LastStep
from models.stay import Stays
from service.audit import StaySeal
from service.audit_chain import records_of
from service.live.choice import MEMORY, keeping_at
from service.live.journal import Answered, Journal
from service.live.reading import Reader, joined
from service.live.store import Entry, StayHead, StayStore
from service.model_uri import artifact_folder, names_registry
from service.settings import Settings
from service.vocabulary import Vocabulary

TOLERANCE = 1e-6
# Stays that are scored together, and heads that are read at one time.
TOGETHER, PAGE = 64, 500

Record = dict[str, Any]


@dataclass
class Recomputed:
    """What came of it; a fault names its record by number, and nothing of a stay.

    Args:
        stays: retained stays that records name.
        answers: answers that were computed again.
        worst: largest difference of a value from the one that was answered.
        gone: answers to stays that are deleted, so that nobody can say whose they are.
        viewed: stays as they were shown; their values are not kept, so there is nothing to compare with.
        whole: scores of whole stays, of which nothing is kept.
        missing: answers by models that no folder holds, by digest.
        faults: what does not hold, by record.
    """

    stays: int = 0
    answers: int = 0
    worst: float = 0.0
    gone: int = 0
    viewed: int = 0
    whole: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every answer of a retained stay was computed again, and came out the same."""
        return not self.faults and not self.missing

    def blame(self, record: Record, what: str) -> None:
        """Notes what is wrong with a record."""
        self.faults.append(f"record {record['seq']}: {what}")


class Artifacts:
    """Verified artifacts by their digests.

    Args:
        cache: the service's folder of verified copies.
        folders: of further artifacts.
    """

    def __init__(self, cache: Path, folders: Sequence[Path] = ()) -> None:
        self._cache, self._folders = cache, folders
        self._loaded: dict[str, _Model | None] = {}

    def model(self, digest: str) -> _Model | None:
        """The model of a digest; None where no folder holds it intact."""
        if digest not in self._loaded:
            self._loaded[digest] = self._load(digest)
        return self._loaded[digest]

    def _load(self, digest: str) -> _Model | None:
        for folder in (*self._folders, artifact_folder(self._cache, digest)):
            try:
                verify_digests(folder, expected_digest=digest)
            except (ArtifactError, OSError):
                continue
            return _Model(folder)
        return None


class _Model:
    """One artifact as it scores stays from their facts."""

    def __init__(self, folder: Path) -> None:
        scorer = load_artifact(folder)
        self._last = LastStep(scorer)
        self.reader = Reader(scorer.bundle, Vocabulary.of(scorer.bundle), reads_notes=scorer.tokenizer is not None)

    def values(self, stays: Sequence[Stays]) -> list[list[float]]:
        """Values of each stay's last time step."""
        found: list[list[float]] = self._last.score(joined(stays)).risk.tolist()
        return found


async def recomputed(folders: Sequence[Path], settings: Settings, models: Sequence[Path] = ()) -> Recomputed:
    """The answers of these chains computed again from the store of the settings.

    Args:
        folders: of chains, verified before.
        settings: name the store, the cache and the model.
        models: folders of further artifacts.

    Raises:
        ConfigError: if the store ends with the service.
        StoreError: if the store cannot be read.
    """
    if settings.store == MEMORY:
        raise ConfigError("store must outlive the service, got memory:; set SEQUELA_STORE as for the service")
    served = () if names_registry(settings.model) else (Path(settings.model),)
    keeping = keeping_at(settings.store)
    await keeping.open()
    try:
        recomputing = Recomputing(keeping.store, Artifacts(settings.cache, (*models, *served)))
        for folder in folders:
            await recomputing.follow(folder)
    finally:
        await keeping.close()
    return recomputing.found


class Recomputing:
    """Computes answers again.

    Args:
        store: of the stays, opened.
        artifacts: of the models.
    """

    def __init__(self, store: StayStore, artifacts: Artifacts) -> None:
        self._store, self._artifacts = store, artifacts
        self.found = Recomputed()
        self._waiting: list[tuple[Record, _Model, Stays, Answered]] = []

    async def follow(self, folder: Path) -> None:
        """Computes again what the records of a chain tell of, which is verified before.

        Raises:
            StoreError: if the store fails.
        """
        told = self._by_stay(records_of(folder))
        async for head in self._heads():
            records = told.pop(StaySeal(head.stay_id, head.secret).stay, None)
            if records is not None:
                self.found.stays += 1
                self._stay(head, records, await self._store.entries(head.number))
        self._score()
        self.found.gone += sum(map(len, told.values()))

    def _by_stay(self, records: Iterable[Record]) -> dict[str, list[Record]]:
        told: dict[str, list[Record]] = {}
        for record in records:
            if "answer" not in record:
                self.found.whole += record["event"] == "scored"
            elif "change" not in record:
                self.found.viewed += 1
            else:
                told.setdefault(record["stay"], []).append(record)
        return told

    async def _heads(self) -> AsyncIterator[StayHead]:
        after = ""
        while heads := await self._store.page(after=after, limit=PAGE):
            for head in heads:
                yield head
            after = heads[-1].stay_id

    def _stay(self, head: StayHead, records: Sequence[Record], entries: Sequence[Entry]) -> None:
        """Lays out the facts of each record's revision, one reading of the journal for all of them."""
        seal, journal = StaySeal(head.stay_id, head.secret), Journal()
        for record in sorted(records, key=lambda one: int(one["revision"])):
            revision = int(record["revision"])
            if revision > len(entries):
                self.found.blame(record, f"its stay must have revision {revision} in the store, got {len(entries)}")
                continue
            entry = entries[revision - 1]
            journal.read(entries[journal.version : revision])
            answered = journal.answered[-1]
            if record["change"] != seal.change(entry.payload) or record["answer"] != seal.answer(answered.values):
                self.found.blame(record, "what the store holds must be what was accepted and answered, got another")
                continue
            self._await(record, journal, answered)

    def _await(self, record: Record, journal: Journal, answered: Answered) -> None:
        model = self._artifacts.model(record["digest"])
        if model is None:
            missing = self.found.missing
            missing[record["digest"]] = missing.get(record["digest"], 0) + 1
            return
        stays = model.reader.stays(journal.facts, end_min=int(record["as_of_min"]))
        self._waiting.append((record, model, stays, answered))
        if len(self._waiting) >= TOGETHER:
            self._score()

    def _score(self) -> None:
        waiting, self._waiting = self._waiting, []
        for model in dict.fromkeys(one[1] for one in waiting):
            own = [one for one in waiting if one[1] is model]
            for (record, _, _, answered), values in zip(own, model.values([one[2] for one in own]), strict=True):
                difference = max(abs(a - b) for a, b in zip(values, answered.values, strict=True))
                self.found.answers += 1
                self.found.worst = max(self.found.worst, difference)
                if not difference <= TOLERANCE:
                    self.found.blame(record, f"the score must be that of then within {TOLERANCE}, got {difference:.1e}")
