"""Features of a time step in, the sum of one learnt curve a feature out: an additive model beside the cell.

Much of a risk is the sum of what every single number says, along curves that bend (a potassium is bad at both
ends). Boosted trees find such curves at once and a recurrent cell only slowly, so the network is given them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.errors import DataError

# Features are standard scores; pieces narrower than this are ties of the quantiles and hold no curve.
NARROWEST = 1e-6


class FeatureCurves(nn.Module):
    """Piecewise-linear curves, constant outside their knots.

    With `r` the rises of feature j and `u` how far a value has come through a piece (0 before it, 1 behind it):
    `curve_j(x) = sum over pieces of r[j, piece] * u[piece](x)`.

    Args:
        width: number of features.
        outputs: number of sums.
        pieces: of every curve; the knots are quantiles of the training stays' time steps.
        dropout: probability that a curve is left out of a sum, in training.

    Example:
        >>> curves = FeatureCurves(1, 1, pieces=2, dropout=0.0)
        >>> curves.place_knots(torch.tensor([[0.0], [1.0], [3.0]]))
        >>> _ = curves.rise.data.copy_(torch.tensor([[[1.0, 10.0]]]))
        >>> curves(torch.tensor([[[-5.0], [0.5], [2.0], [9.0]]])).flatten().tolist()
        [0.0, 0.5, 6.0, 11.0]

    Source: Gorishniy et al. 2022, On Embeddings for Numerical Features in Tabular Deep Learning (piecewise-linear
    encoding); Hastie and Tibshirani 1986, Generalized Additive Models.
    """

    knots: Tensor

    def __init__(self, width: int, outputs: int, *, pieces: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("knots", torch.zeros(width, pieces + 1))
        self.rise = nn.Parameter(torch.zeros(outputs, width, pieces))
        self.dropout = nn.Dropout(dropout)

    def place_knots(self, features: Tensor) -> None:
        """Puts the knots at the quantiles of (steps, width) features.

        Raises:
            DataError: if there is no step, or the width is another.
        """
        if features.ndim != 2 or not len(features) or features.shape[1] != len(self.knots):
            raise DataError(
                f"features must be of shape (steps, {len(self.knots)}) with at least one step, got "
                f"{tuple(features.shape)}; give the training stays' time steps"
            )
        share = torch.linspace(0, 1, self.knots.shape[1], dtype=torch.float64)
        ordered = features.to(torch.float64).sort(dim=0).values
        place = (share * (len(ordered) - 1)).round().long()
        self.knots.copy_(ordered[place].T)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, time, outputs) sums of the curves of (batch, time, width) features."""
        batch, time, width = features.shape
        # Features first: a row then has one feature's knots. Features themselves carry no gradient.
        value = features.reshape(-1, width).T.contiguous()
        pieces = self.rise.shape[2]
        with torch.no_grad():
            # Counting the knots passed is several times faster than a bisection, as the pieces are few.
            piece = torch.zeros_like(value, dtype=torch.int64)
            for knot in range(1, pieces):
                piece += value >= self.knots[:, knot : knot + 1]
            low = self.knots.gather(1, piece)
            wide = (self.knots[:, 1:] - self.knots[:, :-1]).gather(1, piece)
            way = torch.where(wide > NARROWEST, (value - low) / wide.clamp_min(NARROWEST), 0.0).clamp_(0.0, 1.0)
        usable = (self.knots[:, 1:] - self.knots[:, :-1] > NARROWEST).to(self.rise.dtype)
        sums = [self._sum(rise * usable, piece, way) for rise in self.rise]
        return torch.stack(sums, dim=1).view(batch, time, len(sums))

    def _sum(self, rise: Tensor, piece: Tensor, way: Tensor) -> Tensor:
        """(steps,) sum over features of the whole pieces before a value and the part of its own piece."""
        before = rise.cumsum(1) - rise
        curve = torch.addcmul(before.gather(1, piece), rise.gather(1, piece), way)
        dropped: Tensor = self.dropout(curve)
        return dropped.sum(0)
