"""What a call changes of a stay: from what is known of it, to what will be known once the store has the call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from service.audit import AuditEvent
from service.errors import Problem, ProblemKind, invalid_input
from service.identifiers import new_id
from service.live.facts import Fact, Observation, StayFacts
from service.live.fold import Fold, advance, evaluate
from service.live.intake import Intake
from service.live.journal import Answered, correction_entry, facts_entry, profile_entry, withdrawal_entry
from service.live.news import Fresh, may_repeat, only_new, tell, unrepeated
from service.live.reading import Taken
from service.live.restoring import journal_of
from service.live.schema import CorrectionRequest, ObservationsRequest, StayRequest
from service.live.session import Known
from service.live.store import ConflictError, StayStore
from service.live.wording import Outcome
from service.metrics import Metrics
from service.settings import Settings


@dataclass(slots=True)
class Draft:
    """A change that is not yet in the store.

    Args:
        known: the stay as it will be known.
        outcome: what is to be answered.
        entry: makes the journal's entry.
        event: what the audit calls it.
        added: facts whose identifiers will be known.
    """

    known: Known
    outcome: Outcome
    entry: Callable[[Answered], bytes]
    event: AuditEvent
    added: Sequence[Fact] = ()

    def payload(self) -> bytes:
        """The journal's entry."""
        outcome, stepper = self.outcome, self.known.stepper
        return self.entry(
            Answered(
                outcome.prediction_id,
                outcome.score.time_min,
                outcome.steps,
                tuple(outcome.score.values),
                stepper.scorer.digest,
                stepper.origin.version,
            )
        )


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
        self._check_end(known.fold, known, taken, sent.as_of_min)
        facts: StayFacts | None = None
        wants_all = request.get("trajectory", False)
        late = known.fold.is_late(grid, taken.minutes)
        if late or wants_all or may_repeat(known, fresh, taken):
            facts = await self._facts(known)
            fresh = only_new(fresh, facts)
            taken = reader.take(fresh.observations, fresh.notes)
            facts.add(fresh.facts)
            late = known.fold.is_late(grid, taken.minutes)
        fold = await self._folded(known, taken, facts if late else None)
        draft = await self._draft(
            known if fold is known.fold else replace(known, fold=fold),
            AuditEvent.OBSERVED,
            lambda answered: facts_entry(fresh.observations, fresh.notes, answered),
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
        draft = await self._replayed(
            known, facts, AuditEvent.CORRECTED, lambda answered: correction_entry(identifier, fact, answered)
        )
        draft.outcome.replayed_from_min = min(before.known_min, fact.known_min)
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
            known, facts, AuditEvent.WITHDRAWN, lambda answered: withdrawal_entry(identifier, answered)
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
        if facts.held and profile.admission != facts.profile.admission:
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
        if changed and facts.held:
            draft.outcome.replayed_from_min = min(fact.known_min for fact in facts.held.values())
        return draft

    async def _facts(self, known: Known) -> StayFacts:
        journal = await journal_of(self._store, known.number)
        if journal.version != known.version:
            raise ConflictError("version must be the stay's last one, got another; load the stay again")
        return journal.facts

    async def _folded(self, known: Known, taken: Taken, facts: StayFacts | None) -> Fold:
        """The stay with what was taken; from its beginning where all its facts are given."""
        if facts is not None:
            self._metrics.count_replay("late")
            return await known.stepper.replay(facts)
        return await advance(
            known.fold,
            known.stepper,
            known.stepper.grid,
            readings=taken.readings,
            charted=taken.charted,
            end_min=taken.end_min,
        )

    async def _replayed(
        self,
        known: Known,
        facts: StayFacts,
        event: AuditEvent,
        entry: Callable[[Answered], bytes],
        *,
        counted: bool = True,
    ) -> Draft:
        stepper = known.stepper
        taken = stepper.reader.take(facts.observations, facts.notes)
        self._check_end(Fold(b""), known, taken, None)
        if counted:
            self._metrics.count_replay(str(event))
        return await self._draft(replace(known, fold=await stepper.replay(facts)), event, entry)

    async def _draft(
        self,
        known: Known,
        event: AuditEvent,
        entry: Callable[[Answered], bytes],
        *,
        as_of_min: int | None = None,
        trajectory_of: StayFacts | None = None,
        japanese: bool = False,
    ) -> Draft:
        stepper = known.stepper
        score, steps, fold = await evaluate(known.fold, stepper, stepper.grid, as_of_min=as_of_min or 0)
        outcome = Outcome(new_id(), known.version + 1, score, steps, fold.seen, last=known.last, japanese=japanese)
        if trajectory_of is not None:
            end = max(fold.end_min, as_of_min or 0)
            outcome.trajectory = await stepper.trajectory(stepper.reader.stays(trajectory_of, end_min=end))
        after = Known(
            known.number,
            known.seal,
            known.version + 1,
            known.profile,
            stepper,
            fold,
            known.identifiers,
            tuple(score.values),
        )
        return Draft(after, outcome, entry, event)

    def _check_end(self, fold: Fold, known: Known, taken: Taken, as_of_min: int | None) -> None:
        """Refuses a score before what is known, and more time steps than are allowed."""
        end = max(fold.end_min, taken.end_min)
        if as_of_min is not None and as_of_min < end:
            raise invalid_input([(("as_of",), "must not lie before the latest input of the stay")])
        steps = fold.steps_with(known.stepper.grid, taken.minutes, max(end, as_of_min or 0))
        if steps > self._settings.max_steps + 2:
            expected = f"must leave at most {self._settings.max_steps} time steps of this model's grid"
            raise invalid_input([(("observations",), expected)])


def _held(facts: StayFacts, identifier: str) -> Fact:
    fact = facts.held.get(identifier)
    if fact is None:
        raise Problem(
            HTTPStatus.NOT_FOUND, ProblemKind.NOT_FOUND, "The stay must have the observation, and it has none so named."
        )
    return fact
