"""Whole stays in, the calibrated risks of each one's last time step out: what `Scorer.score` says there, at less cost.

A recurrent network has to read every time step, but heads, trees and calibration need the last one alone. Stays are
read side by side, so that many small ones cost little more than one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Chunk
from models.cut import Cut
from models.encoded import Encoded
from models.engine_trees import TreeRows
from models.forward import cut_chunk, walk
from models.network import RecurrentNetwork
from models.pooling import Pooling
from models.scorer import MINUTES_PER_HOUR, Scorer, Trajectories
from models.state import State
from models.stay import Floats, Ints, Stays
from models.trees import TreeMember
from models.uncertainty import Bools

# As many stays are read side by side, in chunks of so many time steps.
ROWS, TRUNCATION_LENGTH = 256, 64


@dataclass(frozen=True)
class LastScores:
    """Scores of the last time steps of `n` stays; each as of `Trajectories`.

    Args:
        steps: (n,) time steps of every stay.
        time_min: (n,) minute at which the last one is stamped.
        risk: (n, outputs).
        spread: (n, outputs).
        label_set: (n, targets, levels, labels); None where the model ships no label sets.
        interval_low: (n, outputs); None without.
        interval_high: (n, outputs); None without.
    """

    steps: Ints
    time_min: Ints
    risk: Floats
    spread: Floats
    label_set: Bools | None = None
    interval_low: Floats | None = None
    interval_high: Floats | None = None

    @classmethod
    def of(cls, whole: Trajectories) -> LastScores:
        """The last time steps of scores of all of them."""
        at = whole.final
        found = cls(np.diff(whole.step_offsets), whole.time_min[at], whole.risk[at], whole.spread[at])
        if whole.label_set is not None:
            found = replace(found, label_set=whole.label_set[at])
        if whole.interval_low is not None and whole.interval_high is not None:
            found = replace(found, interval_low=whole.interval_low[at], interval_high=whole.interval_high[at])
        return found


class LastStep:
    """Scores last time steps with one model; for one thread at a time.

    Args:
        scorer: the model.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        members = list(enumerate(scorer.network))
        self._networks = [(number, member) for number, member in members if isinstance(member, RecurrentNetwork)]
        self._trees = [(number, TreeRows(member)) for number, member in members if isinstance(member, TreeMember)]

    def score(self, stays: Stays) -> LastScores:
        """Risks at the last time step of every stay.

        Raises:
            DataError: if a stay ends before its admission.
        """
        bundle = self._scorer.bundle
        encoded = bundle.encoding.encode(stays, tokenizer=self._scorer.tokenizer)
        members = self._members(encoded)
        stamps = encoded.time_min[encoded.step_offsets[1:] - 1]
        hours = stamps / MINUTES_PER_HOUR
        risk = bundle.calibration.apply(self._scorer.network.combine(members), hours)
        found = LastScores(encoded.lengths, stamps, risk, self._scorer.member_spread(members, hours))
        if bundle.uncertainty is None:
            return found
        low, high = bundle.uncertainty.interval(risk) or (None, None)
        return replace(found, label_set=bundle.uncertainty.label_sets(risk), interval_low=low, interval_high=high)

    def _members(self, encoded: Encoded) -> Floats:
        """(n, members, outputs) logits of the last time steps."""
        network = self._scorer.network
        logits = np.zeros((len(encoded), len(network), network.outputs))
        order = np.argsort(-encoded.lengths, kind="stable")
        for begin in range(0, len(order), ROWS):
            self._read(encoded, order[begin : begin + ROWS], logits)
        if self._trees:
            rows = np.ascontiguousarray(encoded.features[encoded.step_offsets[1:] - 1], dtype=np.float32)
            for number, trees in self._trees:
                logits[:, number] = trees(rows)
        return logits

    def _read(self, encoded: Encoded, stays: Ints, logits: Floats) -> None:
        """Writes the networks' logits of stays, longest first."""
        device = self._scorer.device
        length = TRUNCATION_LENGTH if self._scorer.network.streams else max(int(encoded.lengths[stays[0]]), 1)
        states = [member.initial_state(len(stays)) for _, member in self._networks]
        for cut in walk(encoded, stays, truncation_length=length):
            own = stays[: len(cut.first)]
            ending = np.flatnonzero(cut.first + cut.count == encoded.step_offsets[own + 1])
            with torch.inference_mode():
                chunk = cut_chunk(encoded, cut).to(device)
                for place, (number, member) in enumerate(self._networks):
                    state = _first_rows(states[place], len(own))
                    given, states[place] = _last_logits(member, chunk, state, cut, ending)
                    logits[own[ending], number] = given


def _first_rows(state: State, count: int) -> State:
    """The state without rows of stays that have ended."""
    if count == state.batch:
        return state
    return state.select(torch.arange(count, device=state.tensors[0].device))


def _last_logits(
    network: RecurrentNetwork, chunk: Chunk, state: State, cut: Cut, ending: NDArray[np.intp]
) -> tuple[NDArray[np.generic], State]:
    """(ending, outputs) logits at the last time step of the rows that end in this chunk, and the state after it."""
    rows = torch.from_numpy(ending).to(chunk.valid.device)
    last = torch.from_numpy(cut.count[ending] - 1).to(chunk.valid.device)
    if network.config.pooling is not Pooling.LAST:  # what is pooled hangs on all time steps
        logits, after = network(chunk, state)
        return logits[rows, last].cpu().numpy(), after
    begun = network.begin(chunk, state)
    memory, kept, carried = network.parts(begun)
    read = network.inputs(chunk)
    hidden, memory = network.stack(network.project(read), memory, chunk.valid, kept)
    after = State(begun.names, tuple(t.to(begun.tensors[0].dtype) for t in (*memory, *kept, *carried)))
    ends = Chunk(_at(chunk.features, rows, last), _at(chunk.valid, rows, last), chunk.reset[rows])
    logits, _ = network.readout(ends, _at(read, rows, last), _at(hidden[-1], rows, last), carried)
    return logits[:, 0].cpu().numpy(), after


def _at(values: Tensor, rows: Tensor, steps: Tensor) -> Tensor:
    """(rows, 1, ...) of (batch, time, ...) values."""
    return values[rows, steps][:, None]
