"""What members say of stays that they never saw in, the members with weights that suit it out.

Members of one kind differ by what they were shown and share one weight; kinds are weighed against each other by a
logistic regression of the outcome on their logits, with weights of at least 0 and a prior at the declared ones. A few
numbers are fitted on every patient before the hold-out, none of whom the member that speaks had seen.

Source: Breiman 1996, Stacked Regressions; van der Laan et al. 2007, Super Learner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize

from models.ensemble import Ensemble, MemberSpec
from models.stay import Floats, Ints
from pipelines.combined import MemberLogits, combine_known
from pipelines.config import RunConfig
from pipelines.members import Members
from pipelines.part_data import Dataset

# Precision of the prior, a unit of weight: that of some tens of events.
_PRIOR = 10.0
# No kind is left out: an artifact's members all speak.
_LEAST = 1e-3


def with_fitted_weights(members: Members, logits: MemberLogits, data: Dataset, config: RunConfig) -> Members:
    """The same members with fitted weights, where the configuration asks for them and there are several kinds."""
    kinds = member_kinds(members.specs)
    if not config.ensemble.fit_weights or kinds.max(initial=0) == 0:
        return members
    part = data.saw("member_weights", data.calibration)
    declared = np.array([spec.weight for spec in members.specs])
    shares = np.asarray(np.bincount(kinds, weights=declared), dtype=np.float64)
    said = np.stack(
        [combine_known(logits.calibration[:, kinds == k], declared[kinds == k]) for k in range(len(shares))], axis=2
    )
    known = ~np.isnan(part.label)
    fitted = fit_shares(said[known], part.label[known], shares)
    weights = declared * (fitted / shares)[kinds]
    specs = tuple(replace(spec, weight=float(w)) for spec, w in zip(members.specs, weights, strict=True))
    return replace(members, ensemble=Ensemble(list(members.ensemble), [s.weight for s in specs]), specs=specs)


def member_kinds(specs: Sequence[MemberSpec]) -> Ints:
    """(members,) number of each member's kind, in the order in which kinds first occur."""
    shapes = [(spec.kind, spec.network) for spec in specs]
    order = list(dict.fromkeys(shapes))
    return np.array([order.index(shape) for shape in shapes], dtype=np.int64)


def fit_shares(said: Floats, label: Floats, declared: Floats) -> Floats:
    """(kinds,) shares that add up to 1.

    Args:
        said: (rows, kinds) logits.
        label: (rows,) 0 or 1.
        declared: (kinds,) shares that the prior holds on to.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> said = rng.standard_normal((4000, 2))
        >>> label = (rng.random(4000) < 1 / (1 + np.exp(-2 * said[:, 0]))).astype(float)
        >>> fit_shares(said, label, np.array([0.5, 0.5])).round(1).tolist()
        [1.0, 0.0]
    """
    scale = _minimum(said @ declared[:, None], label, np.zeros(1), precision=0.0)[0]
    weights = _minimum(said, label, declared * scale, precision=_PRIOR)
    kept = np.maximum(weights / max(float(weights.sum()), 1e-12), _LEAST)
    return np.asarray(kept / kept.sum())


def _minimum(said: Floats, label: Floats, centre: Floats, *, precision: float) -> Floats:
    """Weights of at least 0 of the logistic regression with a free intercept and a normal prior at `centre`."""

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, intercept = parameters[:-1], parameters[-1]
        logit = said @ weights + intercept
        wrong = 1.0 / (1.0 + np.exp(-logit)) - label
        away = weights - centre
        value = np.logaddexp(0.0, logit).sum() - label @ logit + 0.5 * precision * (away @ away)
        return float(value), np.append(said.T @ wrong + precision * away, wrong.sum())

    start = np.append(np.maximum(centre, 0.1), 0.0)
    bounds = [(0.0, None)] * len(centre) + [(None, None)]
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x[:-1])
