"""A stay with a change folded in, to the draft of that change: what is to be stored, known and answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.audit import AuditEvent
from service.identifiers import new_id
from service.live.facts import Fact, StayFacts
from service.live.fold import Fold, evaluate
from service.live.journal import Answered
from service.live.session import Known
from service.live.wording import Outcome


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


async def drafted(
    known: Known,
    event: AuditEvent,
    entry: Callable[[Answered], bytes],
    *,
    fold: Fold | None = None,
    as_of_min: int | None = None,
    trajectory_of: StayFacts | None = None,
    japanese: bool = False,
) -> Draft:
    """The draft of a change that leaves the stay as it is given here.

    Args:
        known: the stay; its version is still the one before.
        event: what the audit calls the change.
        entry: makes the journal's entry.
        fold: the stay, folded with the change; None where `known` is so already.
        as_of_min: the minute of the score; None for the latest that is known.
        trajectory_of: the stay's facts, where its whole trajectory is asked for.
        japanese: whether the disclaimer is to be in Japanese.
    """
    stepper = known.stepper
    score, steps, fold = await evaluate(fold or known.fold, stepper, stepper.grid, as_of_min=as_of_min or 0)
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
        known.columns,
        tuple(score.values),
    )
    return Draft(after, outcome, entry, event)
