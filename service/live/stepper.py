"""One served model as live stays need it: time steps in, scores and states out, computed in the inference thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import numpy as np

from models.grid import GridKind
from models.live import LiveModel, Stepped
from models.live_input import LiveInput
from models.scorer import Scorer, Trajectories
from models.stay import Stays
from service.batcher import Batcher
from service.beside import LONG_STEPS
from service.live.facts import Profile, StayFacts
from service.live.fold import Fold, Score, Step
from service.live.reading import Reader, Taken, joined
from service.selection import Origin
from service.vocabulary import Vocabulary

# So few steps cost less within others' batches than by themselves: a bin that closes is one.
FEW = 4
# So many of one stay are taken before others have their turn.
AT_ONCE = 64
P = ParamSpec("P")
T = TypeVar("T")


class Stepper:
    """Takes time steps of live stays with one model; a `fold.StepModel`.

    Args:
        scorer: the verified model.
        origin: how it was found.
        inference: the thread that computes.
        live: the model that steps; made of the scorer where left out.
    """

    def __init__(self, scorer: Scorer, origin: Origin, inference: Batcher, *, live: LiveModel | None = None) -> None:
        self.scorer, self.origin, self.bundle = scorer, origin, scorer.bundle
        self.grid = scorer.bundle.encoding.grid
        self.live = live or LiveModel(scorer)
        self.reader = Reader(scorer.bundle, Vocabulary.of(scorer.bundle), reads_notes=scorer.tokenizer is not None)
        self._inference = inference

    @property
    def key(self) -> str:
        """Names the model and the layout of its states."""
        return self.live.key

    @property
    def state_bytes(self) -> int:
        """Length of a state."""
        return self.live.layout.bytes_a_stay

    def begin(self, profile: Profile) -> bytes:
        """The state of a stay before its first time step."""
        return self.live.start(self.reader.start(profile))[0]

    async def warm_up(self) -> None:
        """Takes a step, so that the first call does not pay for what is set up once."""
        await self.step(self.begin(Profile()), Step(0))

    async def step(self, state: bytes, step: Step) -> tuple[Score, bytes]:
        """The score at the step, and the state after it."""
        return await self._inference.step(self._steps, (state, step))

    async def run(self, state: bytes, steps: Sequence[Step]) -> bytes:
        """The state after many steps, without their scores; a few are taken in batches with other stays' steps."""
        if len(steps) > FEW:
            for begin in range(0, len(steps), AT_ONCE):  # others' steps go between
                state = await self._inference.run(self._run, state, steps[begin : begin + AT_ONCE])
            return state
        for step in steps:
            _, state = await self.step(state, step)
        return state

    async def replay(self, facts: StayFacts) -> Fold:
        """A stay folded from its facts, as stepping through them would."""
        end_min = max((fact.known_min for fact in facts.held.values()), default=-1)
        # What lies before admission alone is stepped through, and one thread takes steps.
        moments = len(facts.held) if end_min >= 0 else 0
        (fold,) = await self._computed(moments, end_min, self.folds, [facts])
        return fold

    async def trajectory(self, stays: Stays) -> Trajectories:
        """Scores at every time step of whole stays."""
        moments, end_min = len(stays.time_min) + len(stays.note_time_min), int(stays.end_min.max(initial=0))
        return await self._computed(moments, end_min, self.scorer.score, stays)

    async def _computed(
        self, moments: int, end_min: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What the function makes of a stay of so many observations and notes: of a long one beside the others."""
        if self.grid.most_steps(moments, end_min) > LONG_STEPS:
            return await self._inference.aside(function, *args, **kwargs)
        return await self._inference.run(function, *args, **kwargs)

    def _steps(self, items: Sequence[tuple[bytes, Step]]) -> list[tuple[Score, bytes]]:
        stepped = self.live.step([state for state, _ in items], [_input(step) for _, step in items])
        scored = scores(self.scorer, stepped, [step.time_min for _, step in items])
        return list(zip(scored, stepped.states, strict=True))

    def _run(self, state: bytes, steps: Sequence[Step]) -> bytes:
        for step in steps:
            (state,) = self.live.step([state], [_input(step)]).states
        return state

    def folds(self, stays: Sequence[StayFacts]) -> list[Fold]:
        """Stays folded from their facts, side by side; for the thread that may compute."""
        taken = [self.reader.take(facts.observations, facts.notes) for facts in stays]
        whole = [i for i, one in enumerate(taken) if max(one.minutes, default=-1) >= 0]
        states: dict[int, bytes] = {}
        if whole:
            laid = [self.reader.stays(stays[i], end_min=max(taken[i].minutes), taken=taken[i]) for i in whole]
            states = dict(zip(whole, self.live.replay(joined(laid), leave_last=True), strict=True))
        return [
            self._fold(self.begin(facts.profile), states.get(i), taken[i])
            if taken[i].minutes
            else Fold(self.begin(facts.profile), end_min=taken[i].end_min)
            for i, facts in enumerate(stays)
        ]

    def fold_taken(self, profile: Profile, taken: Taken) -> Fold:
        """A stay all of which lies before its admission, or of which nothing is known."""
        begun = self.begin(profile)
        return self._fold(begun, None, taken) if taken.minutes else Fold(begun, end_min=taken.end_min)

    def _fold(self, begun: bytes, state: bytes | None, taken: Taken) -> Fold:
        """A stay whose latest step is open; it has no state yet where all lies before admission."""
        minutes = set(taken.minutes)
        opened = self.grid.step_of(max(minutes))
        if state is None:  # a whole stay would have a further step at admission, so history is stepped through
            earlier = sorted(minute for minute in minutes if self.grid.step_of(minute) < opened)
            state = self._run(begun, [_step_at(minute, taken) for minute in earlier])
        inside = {minute for minute in minutes if self.grid.step_of(minute) == opened}
        return Fold(
            state,
            self._steps_before(opened, minutes),
            opened,
            tuple(sorted({r for r in taken.readings if r.minute in inside})),
            tuple(sorted({c for c in taken.charted if c.minute in inside})),
            taken.end_min,
            sum(1 << channel for channel in {r.channel for r in taken.readings}),
        )

    def _steps_before(self, opened: int, minutes: set[int]) -> int:
        if self.grid.kind is GridKind.FIXED:
            return opened + (1 if min(minutes) < 0 else 0)
        return len(minutes) - 1 + (0 if min(minutes) <= 0 else 1)


def scores(scorer: Scorer, stepped: Stepped, time_min: Sequence[int]) -> list[Score]:
    """Scores of steps, with what the model says of their uncertainty.

    Args:
        scorer: the model.
        stepped: one step of `n` stays.
        time_min: their stamps.
    """
    values = stepped.risk.tolist()
    spread = stepped.spread.tolist() if len(scorer.bundle.members) > 1 else None
    ends, labels, uncertainty = None, None, scorer.bundle.uncertainty
    if uncertainty is not None:
        labels = uncertainty.label_sets(stepped.risk).tolist()
        found = uncertainty.interval(stepped.risk)
        ends = None if found is None else np.stack(found, axis=-1).tolist()
    return [
        Score(
            stamp,
            values[i],
            None if spread is None else spread[i],
            None if ends is None else ends[i],
            None if labels is None else labels[i],
        )
        for i, stamp in enumerate(time_min)
    ]


def _step_at(minute: int, taken: Taken) -> Step:
    readings = {r for r in taken.readings if r.minute == minute}
    return Step(minute, tuple(sorted(readings)), tuple(sorted({c for c in taken.charted if c.minute == minute})))


def _input(step: Step) -> LiveInput:
    readings = step.readings
    return LiveInput(
        step.time_min,
        [r.channel for r in readings],
        [r.value for r in readings],
        [r.minute for r in readings],
        [c.text for c in step.charted],
    )
