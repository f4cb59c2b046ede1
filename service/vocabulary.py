"""Names that a sender may use: the model's channels and static variables, and those of the channel table.

A channel that the table knows and the model does not is understood, and reported as unused; a name that
neither knows is refused, so that a misspelt name is never read as a missing measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from models.bundle import Bundle
from models.channel_table import CHANNELS, STATICS
from models.channels import Channel, StaticVariable
from service.schema import FIELD_NAMES

LOINC_PREFIX = "loinc:"


@dataclass(frozen=True)
class Vocabulary:
    """Declarations by the names that senders use.

    Args:
        channels: the model's channels, then those of the table that it does not declare.
        statics: the same of the static variables.
        channel_index: index into `channels` by name and by `loinc:<code>`.
        static_index: index into `statics` by name.
        used_channels: names of the channels that the model reads.
        used_statics: names of the static variables that the model reads.
        words: every word that may stand in the path of an error.
    """

    channels: tuple[Channel, ...]
    statics: tuple[StaticVariable, ...]
    channel_index: dict[str, int]
    static_index: dict[str, int]
    used_channels: frozenset[str]
    used_statics: frozenset[str]
    words: frozenset[str]

    @cached_property
    def declared(self) -> dict[tuple[str, str], str]:
        """Declared name of every accepted pair of a sent name and a unit; there are finitely many."""
        return {
            (sent, unit): self.channels[index].name
            for sent, index in self.channel_index.items()
            for unit in (self.channels[index].unit, *self.channels[index].accepts)
        }

    @classmethod
    def of(cls, bundle: Bundle) -> Vocabulary:
        """The names that a model's service understands; the model's declarations go before the table's."""
        own = {c.name for c in bundle.channels}
        channels = (*bundle.channels, *(c for c in CHANNELS if c.name not in own))
        own_statics = {s.name for s in bundle.statics}
        statics = (*bundle.statics, *(s for s in STATICS if s.name not in own_statics))
        index: dict[str, int] = {}
        for position, channel in enumerate(channels):
            index.setdefault(channel.name, position)
            for code in channel.loinc:
                index.setdefault(LOINC_PREFIX + code, position)
        return cls(
            channels=channels,
            statics=statics,
            channel_index=index,
            static_index={s.name: i for i, s in enumerate(statics)},
            used_channels=frozenset(bundle.encoding.channels.names),
            used_statics=frozenset(v.name for v in bundle.encoding.statics.variables),
            words=FIELD_NAMES | {s.name for s in statics},
        )
