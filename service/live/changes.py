"""What a call changes of a stay: from what is known of it, to what will be known once the store has the call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from service.audit import AuditEvent
from service.errors import Problem, ProblemKind
from service.live.columns import Columns
from service.live.drafts import Draft, drafted
from service.live.facts import Fact, Observation, StayFacts
from service.live.fold import Fold, advance
from service.live.intake import Intake
from service.live.journal import Answered, correction_entry, facts_entry, profile_entry, withdrawal_entry
from service.live.news import Fresh, may_repeat, only_new, tell, tell_statics, unrepeated
from service.live.reading import Taken
from service.live.refolding import refolded_from
from service.live.restoring import journal_of
from service.live.room import check_end, check_room
from service.live.schema import CorrectionRequest, ObservationsRequest, StayRequest
from service.live.session import Known
from service.live.store import ConflictError, StayStore
from service.metrics import Metrics
from service.settings import Settings


class Changes:
    """Drafts changes.

    Args:
        store: where a stay's earlier facts are.
        intake: reads what was sent.
        settings: limits.
        metrics: counts replays.
    """

    def __init__(self, store: StayStore, intake: Intake, settings: Settings, metrics: Metrics) -> None:
        self._store, self._intake, self._settings, self._metrics = store, intake, settings, metrics

    async def observe(self, known: Known, request: ObservationsRequest) -> Draft:
        """Adds observations and notes.

        Raises:
            Problem: 422 with the places that do not hold.
            ConflictError: if the store knows more of the stay.
        """
        reader, grid = known.stepper.reader, known.stepper.grid
        sent = self._intake.facts(request, known.profile, reader)
        fresh = unrepeated(sent)
        taken = reader.take(fresh.observations, fresh.notes)
        check_end(known.fold, grid, taken, sent.as_of_min, most_steps=self._settings.max_steps)
        facts: StayFacts | None = None
        wants_all = request.get("trajectory", False)
        late = known.fold.is_late(grid, taken.minutes)
        if wants_all or may_repeat(known, fresh, taken, late=late):
            facts = await self._facts(known)
            fresh = only_new(fresh, facts)
            taken = reader.take(fresh.observations, fresh.notes)
            facts.add(fresh.facts)
            late = known.fold.is_late(grid, taken.minutes)
        check_room(known, fresh, taken, self._settings)
        fold = await (self._late(known, fresh, taken, facts) if late else _folded(known, taken))
        draft = await drafted(
            known,
            AuditEvent.OBSERVED,
            lambda answered: facts_entry(fresh.observations, fresh.notes, answered),
            fold=fold,
            as_of_min=sent.as_of_min,
            trajectory_of=facts if wants_all else None,
            japanese=request.get("disclaimer_language") == "ja",
        )
        draft.added = fresh.facts
        tell(draft.outcome, fresh, taken)
        if late:
            draft.outcome.replayed_from_min = min(taken.minutes)
        if request.get("identifiers", False):
            draft.outcome.identifiers = [fact.identifier for fact in sent.facts]
        return draft

    async def correct(self, known: Known, identifier: str, request: CorrectionRequest) -> Draft:
        """Puts what a fact is to be in its place.

        Raises:
            Problem: 404 for a fact that the stay does not have, 422 with the places that do not hold.
        """
        facts = await self._facts(known)
        before = _held(facts, identifier)
        fact = self._intake.correction(request, before, known.profile, known.stepper.reader)
        facts.correct(identifier, fact)
        since = min(before.known_min, fact.known_min)
        draft = await self._replayed(
            known,
            facts,
            AuditEvent.CORRECTED,
            lambda answered: correction_entry(identifier, fact, answered),
            since_min=since,
        )
        draft.outcome.replayed_from_min = since
        observations, notes = ([fact], []) if isinstance(fact, Observation) else ([], [fact])
        tell(draft.outcome, Fresh(observations, notes, (0,), (0,)), known.stepper.reader.take(observations, notes))
        return draft

    async def withdraw(self, known: Known, identifier: str) -> Draft:
        """Takes a fact out.

        Raises:
            Problem: 404 for a fact that the stay does not have.
        """
        facts = await self._facts(known)
        before = _held(facts, identifier)
        facts.withdraw(identifier)
        draft = await self._replayed(
            known,
            facts,
            AuditEvent.WITHDRAWN,
            lambda answered: withdrawal_entry(identifier, answered),
            since_min=before.known_min,
        )
        draft.outcome.replayed_from_min = before.known_min
        return draft

    async def admit(self, known: Known, request: StayRequest, *, new: bool) -> Draft:
        """States what is known at admission.

        Args:
            known: the stay; one without anything known where it is new.
            request: what was sent.
            new: whether the store does not have the stay yet.

        Raises:
            Problem: 422 with the places that do not hold, 409 for another admission of a stay with observations.
        """
        profile = self._intake.profile(request, known.stepper.reader)
        facts = StayFacts() if new else await self._facts(known)
        changed = profile != facts.profile
        if facts.held and profile.admitted != facts.profile.admitted:
            raise Problem(
                HTTPStatus.CONFLICT,
                ProblemKind.CONFLICT,
                "The admission of a stay with observations must stay as it is; delete the stay and send it anew.",
            )
        facts.profile = profile
        draft = await self._replayed(
            known, facts, AuditEvent.ADMITTED, lambda answered: profile_entry(profile, answered), counted=not new
        )
        draft.known.profile = profile
        tell_statics(draft.outcome, request, known.stepper.reader)
        if changed and facts.held:
            draft.outcome.replayed_from_min = min(fact.known_min for fact in facts.held.values())
        return draft

    async def _facts(self, known: Known) -> StayFacts:
        journal = await journal_of(self._store, known.number)
        if journal.version != known.version:
            raise ConflictError("version must be the stay's last one, got another; load the stay again")
        return journal.facts

    async def _late(self, known: Known, fresh: Fresh, taken: Taken, facts: StayFacts | None) -> Fold:
        """The stay with what was taken, some of it before what is committed; its facts with it, where they are read."""
        self._metrics.count_replay("late")
        columns = known.columns.copy()
        columns.add(fresh.facts)
        fold = await refolded_from(known, columns, min(taken.minutes))
        if fold is not None:
            return fold
        if facts is None:
            facts = await self._facts(known)
            facts.add(fresh.facts)
        return await known.stepper.replay(facts)

    async def _replayed(
        self,
        known: Known,
        facts: StayFacts,
        event: AuditEvent,
        entry: Callable[[Answered], bytes],
        *,
        counted: bool = True,
        since_min: int | None = None,
    ) -> Draft:
        """The stay folded anew from these facts, which differ from a minute on; None: from its beginning."""
        stepper = known.stepper
        taken = stepper.reader.take(facts.observations, facts.notes)
        check_end(Fold(b""), stepper.grid, taken, None, most_steps=self._settings.max_steps)
        if counted:
            self._metrics.count_replay(str(event))
        columns = Columns.of(known.columns.codes, facts)
        fold = None if since_min is None else await refolded_from(known, columns, since_min)
        after = replace(known, fold=fold or await stepper.replay(facts), columns=columns)
        return await drafted(after, event, entry)


def _held(facts: StayFacts, identifier: str) -> Fact:
    fact = facts.held.get(identifier)
    if fact is None:
        raise Problem(
            HTTPStatus.NOT_FOUND, ProblemKind.NOT_FOUND, "The stay must have the observation, and it has none so named."
        )
    return fact


async def _folded(known: Known, taken: Taken) -> Fold:
    """The stay with what was taken, all of it later than what is committed."""
    return await advance(
        known.fold,
        known.stepper,
        known.stepper.grid,
        readings=taken.readings,
        charted=taken.charted,
        end_min=taken.end_min,
    )
