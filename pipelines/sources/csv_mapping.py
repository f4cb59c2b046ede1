"""A hospital's mapping file (TOML) in, checked names, units, categories and declarations out.

The mapping says everything that a file does not say by itself; nothing is guessed from the size of a number.
"""

from __future__ import annotations

import codecs
import datetime as dt
import tomllib
import zoneinfo
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from models.channel_table import CHANNELS, STATICS
from models.channels import Channel, Conversion, StaticKind, StaticVariable
from models.errors import ConfigError
from models.record import from_plain

TABLES = ("observations", "stays", "outcomes", "notes")
# Tables of a corpus of documents (`sequela prepare documents`), which has no stays.
DOCUMENT_TABLES = ("documents", "spans")


class Ambiguity(StrEnum):
    """What a local time means that the clock showed twice, when summer time ended."""

    REFUSE = "refuse"
    EARLIER = "earlier"
    LATER = "later"


class Absent(StrEnum):
    """What a stay without a row of a timed outcome is."""

    NO_EVENT = "no_event"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class DeclaredChannel:
    """A channel that the table does not have; see `models.channels.Channel`."""

    unit: str
    hard: tuple[float, float]
    soft: tuple[float, float] | None = None
    loinc: tuple[str, ...] = ()
    accepts: dict[str, Conversion] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True)
class DeclaredStatic:
    """A static variable that the table does not have; see `models.channels.StaticVariable`."""

    kind: StaticKind = StaticKind.NUMERIC
    unit: str = "1"
    hard: tuple[float, float] = (-1e12, 1e12)
    accepts: dict[str, Conversion] = field(default_factory=dict)
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutcomeRule:
    """How an outcome is read.

    Args:
        values: the hospital's words and their numbers, such as `died = 1`.
        absent: what stays without a row are, for an outcome that has times and no values.
    """

    values: dict[str, float] = field(default_factory=dict)
    absent: Absent = Absent.NO_EVENT


@dataclass(frozen=True)
class Ignored:
    """What is not read: names of channels, and columns of any file."""

    channels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class HospitalMapping:
    """The whole mapping file; every key may be left out.

    Args:
        source: name of the data for reports and cards.
        licence: licence of the data.
        encoding: text encoding of the files.
        delimiter: what separates the columns.
        decimal: what separates the decimals.
        timezone: zone of times without an offset, such as `Asia/Tokyo`; empty refuses such times.
        time_format: pattern of times that are not RFC 3339, such as `%Y/%m/%d %H:%M`.
        ambiguous_time: what a local time means that occurred twice.
        missing: texts that mean a missing value.
        files: file names by table (observations, stays, outcomes, notes; documents, spans).
        columns: by table, the hospital's column for each of ours.
        channels: our channel for each of the hospital's names.
        units: UCUM unit for each of the hospital's spellings.
        channel_units: unit of a channel where the file has no unit column or an empty cell.
        static_units: unit of a static variable that is not in its canonical unit.
        categories: by static variable, our category for each of the hospital's words; empty text = missing.
        outcomes: by outcome, how it is read.
        ignore: what is not read.
        declare: new channels.
        declare_static: new static variables.
    """

    source: str = "csv"
    licence: str = "not stated"
    encoding: str = "utf-8"
    delimiter: str = ","
    decimal: str = "."
    timezone: str = ""
    time_format: str = ""
    ambiguous_time: Ambiguity = Ambiguity.REFUSE
    missing: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    channel_units: dict[str, str] = field(default_factory=dict)
    static_units: dict[str, str] = field(default_factory=dict)
    categories: dict[str, dict[str, str]] = field(default_factory=dict)
    outcomes: dict[str, OutcomeRule] = field(default_factory=dict)
    ignore: Ignored = field(default_factory=Ignored)
    declare: dict[str, DeclaredChannel] = field(default_factory=dict)
    declare_static: dict[str, DeclaredStatic] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses names that lead nowhere, so that a slip of the pen is found before a long read."""
        _check_text(self)
        _check_keys("files", self.files, (*TABLES, *DOCUMENT_TABLES))
        _check_keys("columns", self.columns, (*TABLES, *DOCUMENT_TABLES))
        channels, statics = self.channel_declarations(), self.static_declarations()
        _check_targets("channels", self.channels, channels)
        _check_keys("channel_units", self.channel_units, channels)
        _check_keys("static_units", self.static_units, statics)
        _check_keys("categories", self.categories, statics)
        for name, words in self.categories.items():
            _check_targets(f"categories.{name}", words, ("", *statics[name].categories))
        accepted = {unit for c in channels.values() for unit in (c.unit, *c.accepts)}
        accepted |= {unit for v in statics.values() for unit in (v.unit, *v.accepts)}
        _check_targets("units", self.units, accepted)
        for both in sorted(set(self.ignore.channels) & set(self.channels)):
            raise ConfigError(f"ignore.channels must not name a mapped channel, got {both!r}; remove one of the two")

    def channel_declarations(self) -> dict[str, Channel]:
        """The channel table and the channels declared here, by name."""
        table = {channel.name: channel for channel in CHANNELS}
        codes = {code: channel.name for channel in CHANNELS for code in channel.loinc}
        for name, d in self.declare.items():
            _refuse_known("declare", name, table)
            for code in d.loinc:
                _refuse_known(f"declare.{name}.loinc", code, codes)
                codes[code] = name
            table[name] = Channel(name, d.unit, d.hard, d.loinc, d.soft, d.accepts, d.title)
        return table

    def static_declarations(self) -> dict[str, StaticVariable]:
        """The table of static variables and those declared here, by name."""
        table = {variable.name: variable for variable in STATICS}
        for name, d in self.declare_static.items():
            _refuse_known("declare_static", name, table)
            table[name] = StaticVariable(name, d.kind, d.unit, d.hard, d.accepts, d.categories)
        return table


def load_mapping(path: Path | None) -> HospitalMapping:
    """The mapping of a file; without one, names and units must be ours already.

    Raises:
        ConfigError: if the file cannot be read or a key or name does not hold.
    """
    if path is None:
        return HospitalMapping()
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"mapping must be a TOML file in UTF-8, got {path.name}: {error}; correct the file") from None
    return from_plain(HospitalMapping, plain, where=f"mapping {path.name}")


def _check_text(mapping: HospitalMapping) -> None:
    if len(mapping.delimiter) != 1 or mapping.decimal not in (".", ",") or mapping.decimal == mapping.delimiter:
        raise ConfigError(
            "delimiter must be one character other than decimal, and decimal '.' or ',', got "
            f"{mapping.delimiter!r} and {mapping.decimal!r}; correct the mapping"
        )
    try:
        codecs.lookup(mapping.encoding)
    except LookupError:
        raise ConfigError(
            f"encoding must be one that Python knows, got {mapping.encoding!r}; use utf-8 or cp932"
        ) from None
    try:
        dt.datetime.now(zoneinfo.ZoneInfo(mapping.timezone or "UTC"))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"timezone must be a name of the IANA database, got {mapping.timezone!r}; write one such as Asia/Tokyo"
        ) from None


def _check_keys(where: str, given: Mapping[str, object], known: Collection[str]) -> None:
    names = set(known)
    for key in given:
        if key not in names:
            raise ConfigError(f"{where} must have keys among {_some(names)}, got {key!r}; rename or declare it")


def _check_targets(where: str, given: dict[str, str], known: Collection[str]) -> None:
    names = set(known)
    for key, target in given.items():
        if target not in names:
            raise ConfigError(
                f"{where} must lead to names among {_some(names)}, got {target!r} for {key!r}; correct or declare it"
            )


def _some(names: set[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:100]) + (", ..." if len(ordered) > 100 else "")


def _refuse_known(where: str, name: str, known: Collection[str]) -> None:
    if name in known:
        raise ConfigError(f"{where} must be new, got {name!r}, which is declared already; use the declared one")
