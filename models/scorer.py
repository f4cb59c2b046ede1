"""A stay in, calibrated risks out: encoding, network and calibration of one artifact, together.

Live stays are scored one time step at a time by `models.live`, with the same risks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.bundle import Bundle
from models.forward import score_logits
from models.network import RecurrentNetwork
from models.notes import NoteTokenizer
from models.stay import Floats, Ints, Stays

MINUTES_PER_HOUR = 60.0


@dataclass(frozen=True)
class Trajectories:
    """Scores of every time step of `n` stays, end to end.

    Args:
        step_offsets: (n + 1,) time steps of stay i.
        time_min: (steps,) minute at which the step is stamped.
        logit: (steps, outputs) the network's outputs.
        risk: (steps, outputs) calibrated: probabilities, or the predicted number for regression.
    """

    step_offsets: Ints
    time_min: Ints
    logit: Floats
    risk: Floats

    @property
    def final(self) -> Ints:
        """(n,) row of the last time step of every stay."""
        return self.step_offsets[1:] - 1


class Scorer:
    """One loaded model.

    Args:
        bundle: the model's facts.
        network: its weights, in evaluation mode.
        tokenizer: how its notes become tokens; None where it reads none.
        digest: digest of the artifact, `sha256:<hex>`; empty for a model that is not saved yet.
        card: the model card in Markdown, where the artifact holds one.
        device: where the network runs.
    """

    def __init__(
        self,
        bundle: Bundle,
        network: RecurrentNetwork,
        tokenizer: NoteTokenizer | None = None,
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
        logit = score_logits(self.network, encoded, device=self.device).astype(np.float64)
        risk = self.bundle.calibration.apply(logit, encoded.time_min / MINUTES_PER_HOUR)
        return Trajectories(encoded.step_offsets, encoded.time_min, logit, risk)


def resolve_device(name: str) -> str:
    """`auto` is `cuda` where a GPU is present, and `cpu` elsewhere; other names stand."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
