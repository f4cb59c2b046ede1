"""The order of an encoding's features in, the columns that hold every channel's value, mask and delta out."""

from __future__ import annotations

from dataclasses import dataclass

from models.channel_encoding import Feature
from models.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """Where a network finds value, mask and delta of every channel among the features of a time step.

    The channels' features stand first, those of one channel together; clock, static values and notes follow.

    Args:
        channels: number of channels.
        per_channel: number of features of one channel.
        value: place of the last value among a channel's features.
        mask: place of the mask.
        delta: place of the time since the channel's previous observation.

    Example:
        >>> Layout.of(2, (Feature.VALUE, Feature.MASK, Feature.DELTA)).columns(Feature.DELTA)
        (2, 5)
    """

    channels: int
    per_channel: int
    value: int
    mask: int
    delta: int

    def __post_init__(self) -> None:
        """Refuses places that overlap or lie outside a channel's features."""
        places = (self.value, self.mask, self.delta)
        if len(set(places)) < len(places) or not all(0 <= place < self.per_channel for place in places):
            raise ConfigError(
                f"value, mask and delta must be three places below per_channel = {self.per_channel}, got {places}; "
                "take the layout from the encoding"
            )
        if self.channels < 1:
            raise ConfigError(f"channels must be at least 1, got {self.channels}; encode a channel")

    @classmethod
    def of(cls, channels: int, features: tuple[Feature, ...]) -> Layout | None:
        """The layout of so many channels with these features each; None if value, mask or delta is not among them."""
        if not channels or not {Feature.VALUE, Feature.MASK, Feature.DELTA} <= set(features):
            return None
        places = (features.index(feature) for feature in (Feature.VALUE, Feature.MASK, Feature.DELTA))
        return cls(channels, len(features), *places)

    @staticmethod
    def required(layout: Layout | None) -> Layout:
        """The layout, for a cell that cannot do without.

        Raises:
            ConfigError: if there is none.
        """
        if layout is None:
            raise ConfigError(
                "encoding.features must hold value, mask and delta for the cell gru_d, got a choice without one of "
                'them or no channel; set encoding.features to ["value", "mask", "delta"]'
            )
        return layout

    @property
    def width(self) -> int:
        """Number of features of all channels."""
        return self.channels * self.per_channel

    @property
    def others(self) -> tuple[int, ...]:
        """Places among a channel's features that are neither value, mask nor delta."""
        return tuple(i for i in range(self.per_channel) if i not in (self.value, self.mask, self.delta))

    def columns(self, feature: Feature) -> tuple[int, ...]:
        """(channels,) columns of value, mask or delta among the features of a time step."""
        place = {Feature.VALUE: self.value, Feature.MASK: self.mask, Feature.DELTA: self.delta}[feature]
        return tuple(channel * self.per_channel + place for channel in range(self.channels))
