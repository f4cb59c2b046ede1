"""Channel values in canonical units in, clipped standard scores out, with statistics of the training stays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.stay import Floats, Ints

# A channel counts as skewed, and is standardised on a logarithmic scale, from this sample skewness on.
SKEWED = 1.5
_FEWEST_FOR_SKEWNESS = 50


@dataclass(frozen=True)
class Standardiser:
    """Fitted statistics of every channel: `z = (f(value) - mean) / std`, clipped.

    `f` is the identity, or for a right-skewed channel `sign(value) * log1p(|value| / log_scale)`.

    Args:
        mean: mean of `f(value)` over the training stays; 0 where the channel was never observed.
        std: standard deviation of `f(value)`; 1 where it is undefined.
        log_scale: the median of positive values, or 0 for the identity.
        stays: number of training stays with an observation; a channel with 0 is never used.
        clip: bound of the absolute standard score.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    log_scale: tuple[float, ...]
    stays: tuple[int, ...]
    clip: float

    @classmethod
    def fit(cls, *, stay: Ints, channel: Ints, value: Floats, channels: int, clip: float) -> Standardiser:
        """Fits on the (m,) observations of the training stays; `channel` lies in `0 .. channels - 1`."""
        log_scale = _log_scales(channel, value, channels)
        transformed = _transform(value, log_scale[channel])
        mean, std = _mean_std(channel, transformed, channels)
        pairs = np.unique(stay * max(channels, 1) + channel)
        return cls(
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            log_scale=tuple(log_scale.tolist()),
            stays=tuple(np.bincount(pairs % max(channels, 1), minlength=channels).tolist()),
            clip=clip,
        )

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    @cached_property
    def used(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(channels,) whether the channel was observed in training."""
        return np.array(self.stays, dtype=np.int64) > 0

    @cached_property
    def _coefficients(self) -> tuple[Floats, Floats, Floats]:
        return np.array(self.mean), np.array(self.std), np.array(self.log_scale)

    def apply(self, channel: Ints, value: Floats) -> Floats:
        """(m,) standard scores of (m,) values of these channels."""
        mean, std, log_scale = self._coefficients
        scores = (_transform(value, log_scale[channel]) - mean[channel]) / std[channel]
        # As `np.clip`, which takes longer than all the rest where values are few.
        clipped: Floats = np.minimum(np.maximum(scores, -self.clip), self.clip)
        return clipped

    def invert(self, channel: Ints, score: Floats) -> Floats:
        """(m,) values in canonical units of (m,) standard scores."""
        mean, std, log_scale = self._coefficients
        transformed = mean[channel] + std[channel] * score
        scale = log_scale[channel]
        # A channel that is not logarithmic, such as platelets in the hundreds, would overflow.
        risen = np.expm1(np.where(scale > 0, np.abs(transformed), 0.0))
        return np.where(scale > 0, np.sign(transformed) * scale * risen, transformed)


def _transform(value: Floats, log_scale: Floats) -> Floats:
    logarithmic = log_scale > 0
    if not logarithmic.any():
        return value
    scaled = np.sign(value) * np.log1p(np.abs(value) / np.where(logarithmic, log_scale, 1.0))
    return np.where(logarithmic, scaled, value)


def _mean_std(channel: Ints, value: Floats, channels: int) -> tuple[Floats, Floats]:
    count = np.maximum(np.bincount(channel, minlength=channels), 1)
    mean = np.bincount(channel, value, minlength=channels) / count
    square = np.bincount(channel, (value - mean[channel]) ** 2, minlength=channels) / count
    std = np.sqrt(square)
    return mean, np.where(std > 1e-9 * np.maximum(np.abs(mean), 1.0), std, 1.0)


def _skewness(channel: Ints, value: Floats, channels: int) -> Floats:
    mean, std = _mean_std(channel, value, channels)
    count = np.maximum(np.bincount(channel, minlength=channels), 1)
    third: Floats = np.bincount(channel, ((value - mean[channel]) / std[channel]) ** 3, minlength=channels) / count
    return third


def _log_scales(channel: Ints, value: Floats, channels: int) -> Floats:
    """The scale of every channel whose logarithm is clearly less skewed than itself; 0 for the others."""
    median = np.zeros(channels)
    positive = value > 0
    count = np.bincount(channel[positive], minlength=channels)
    order = np.lexsort((value[positive], channel[positive]))
    ranked, found = value[positive][order], count > 0
    median[found] = ranked[(np.cumsum(count) - count + count // 2)[found]]
    eligible = found & (np.bincount(channel[value < 0], minlength=channels) == 0)
    eligible &= np.bincount(channel, minlength=channels) >= _FEWEST_FOR_SKEWNESS
    skewness = _skewness(channel, value, channels)
    candidate = np.where(eligible & (skewness > SKEWED), median, 0.0)
    after = _skewness(channel, _transform(value, candidate[channel]), channels)
    return np.where(np.abs(after) < skewness, candidate, 0.0)
