"""A stay in, calibrated risks out: encoding, members and calibration of one artifact, together.

Live stays are scored one time step at a time by `models.live`, with the same risks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from models.bundle import Bundle
from models.ensemble import Ensemble, spread
from models.forward import score_members
from models.note_reader import NoteReader
from models.stay import Floats, Ints, Stays
from models.uncertainty import Bools

MINUTES_PER_HOUR = 60.0


@dataclass(frozen=True)
class Trajectories:
    """Scores of every time step of `n` stays, end to end.

    Args:
        step_offsets: (n + 1,) time steps of stay i.
        time_min: (steps,) minute at which the step is stamped.
        logit: (steps, outputs) the weighted mean of the members'.
        risk: (steps, outputs) calibrated: probabilities, or the predicted number for regression.
        spread: (steps, outputs) standard deviation of the members' calibrated risks, in the risk's unit: how much
            the members disagree; 0 for one member.
        label_set: (steps, targets, levels, labels) whether a label is compatible with the risk, see
            `models.uncertainty`; None where the model ships no label sets.
        interval_low: (steps, outputs) lower end of the risk's Venn-Abers interval; None without.
        interval_high: (steps, outputs) upper end; None without.
    """

    step_offsets: Ints
    time_min: Ints
    logit: Floats
    risk: Floats
    spread: Floats
    label_set: Bools | None = None
    interval_low: Floats | None = None
    interval_high: Floats | None = None

    @property
    def final(self) -> Ints:
        """(n,) row of the last time step of every stay."""
        return self.step_offsets[1:] - 1


class Scorer:
    """One loaded model.

    Args:
        bundle: the model's facts.
        network: its members, in evaluation mode.
        tokenizer: how its notes become tokens; None where it reads none.
        digest: digest of the artifact, `sha256:<hex>`; empty for a model that is not saved yet.
        card: the model card in Markdown, where the artifact holds one.
        device: where the network runs.
    """

    def __init__(
        self,
        bundle: Bundle,
        network: Ensemble,
        tokenizer: NoteReader | None = None,
        *,
        digest: str = "",
        card: str = "",
        device: str = "cpu",
    ) -> None:
        self.bundle = bundle
        self.network = network.to(device).eval()
        self.tokenizer = tokenizer
        self.digest = digest
        self.card = card
        self.device = torch.device(device)

    def score(self, stays: Stays) -> Trajectories:
        """Risks at every time step of every stay.

        Raises:
            DataError: if a stay ends before its admission.
        """
        encoded = self.bundle.encoding.encode(stays, tokenizer=self.tokenizer)
        hours = encoded.time_min / MINUTES_PER_HOUR
        members = score_members(self.network, encoded, device=self.device)
        logit = self.network.combine(members)
        risk = self.bundle.calibration.apply(logit, hours)
        scored = Trajectories(encoded.step_offsets, encoded.time_min, logit, risk, self.member_spread(members, hours))
        return self._with_uncertainty(scored)

    def _with_uncertainty(self, scored: Trajectories) -> Trajectories:
        uncertainty = self.bundle.uncertainty
        if uncertainty is None:
            return scored
        low, high = uncertainty.interval(scored.risk) or (None, None)
        return replace(scored, label_set=uncertainty.label_sets(scored.risk), interval_low=low, interval_high=high)

    def member_spread(self, members: Floats, hours: Floats) -> Floats:
        """How much the members disagree: (steps, outputs) standard deviation of their calibrated risks.

        Args:
            members: (steps, members, outputs) their logits.
            hours: (steps,) hours since admission.
        """
        if members.shape[1] == 1:
            return np.zeros((len(members), members.shape[2]))
        # A row a member, so that all are calibrated in one call.
        rows = members.reshape(-1, members.shape[2])
        risks = self.bundle.calibration.apply(rows, np.repeat(hours, members.shape[1]))
        return spread(risks.reshape(members.shape), self.network.weights)


def resolve_device(name: str) -> str:
    """`auto` is `cuda` where a GPU is present, and `cpu` elsewhere; other names stand."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
