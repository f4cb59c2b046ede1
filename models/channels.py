"""Channels and static variables: name, LOINC, unit, accepted units with conversions, and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from models.errors import ConfigError


@dataclass(frozen=True)
class Conversion:
    """From an accepted unit to the canonical one: `canonical = value * factor + offset`."""

    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Channel:
    """One measured quantity.

    Args:
        name: snake case, the field's standard term.
        loinc: accepted LOINC codes, the first preferred; check digits are verified.
        unit: canonical UCUM unit.
        hard: (low, high) in the canonical unit; values outside are rejected and counted.
        soft: (low, high); values outside are kept and flagged.
        accepts: other accepted UCUM units and their conversions.
        title: words for people.
    """

    name: str
    unit: str
    hard: tuple[float, float]
    loinc: tuple[str, ...] = ()
    soft: tuple[float, float] | None = None
    accepts: dict[str, Conversion] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        """Refuses a declaration that cannot hold."""
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise ConfigError(f"channel name must be a lower-case identifier, got {self.name!r}; rename the channel")
        if not self.hard[0] < self.hard[1]:
            raise ConfigError(f"hard limits of {self.name} must be low < high, got {self.hard}; swap or widen them")
        if self.soft is not None and not self.hard[0] <= self.soft[0] < self.soft[1] <= self.hard[1]:
            raise ConfigError(
                f"soft limits of {self.name} must lie within the hard limits {self.hard}, got {self.soft}; narrow them"
            )
        for code in self.loinc:
            if not loinc_check_digit_holds(code):
                raise ConfigError(
                    f"loinc of {self.name} must have a valid check digit, got {code!r}; look the code up again"
                )
        for unit, conversion in self.accepts.items():
            if conversion.factor == 0.0 or unit == self.unit:
                raise ConfigError(
                    f"accepted units of {self.name} must differ from {self.unit} and have a factor other than 0, "
                    f"got {unit!r}; mend the conversion"
                )

    def conversion(self, unit: str) -> Conversion | None:
        """How to convert from `unit`; None if the channel does not accept it."""
        return Conversion() if unit == self.unit else self.accepts.get(unit)


class StaticKind(StrEnum):
    """Whether a static variable is a number or one of several categories."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


@dataclass(frozen=True)
class StaticVariable:
    """One value known at admission, such as age or sex.

    Args:
        name: snake case.
        kind: numeric or categorical.
        unit: canonical UCUM unit (numeric).
        hard: (low, high) in the canonical unit (numeric); values outside are rejected and counted.
        accepts: other accepted units (numeric).
        categories: names (categorical); stored as their index.
    """

    name: str
    kind: StaticKind = StaticKind.NUMERIC
    unit: str = "1"
    hard: tuple[float, float] = (-1e12, 1e12)
    accepts: dict[str, Conversion] = field(default_factory=dict)
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses a declaration that cannot hold."""
        if (self.kind is StaticKind.CATEGORICAL) != (len(self.categories) > 0):
            raise ConfigError(
                f"categories of {self.name} must be given exactly if it is categorical, got "
                f"{len(self.categories)} with kind '{self.kind}'; list them or change the kind"
            )

    def conversion(self, unit: str) -> Conversion | None:
        """How to convert from `unit`; None if the variable does not accept it."""
        return Conversion() if unit == self.unit else self.accepts.get(unit)


def loinc_check_digit_holds(code: str) -> bool:
    """Whether the digit behind the hyphen is the code's mod-10 (Luhn) check digit.

    Source: LOINC Users' Guide, appendix on the check digit.

    Example:
        >>> loinc_check_digit_holds("8867-4"), loinc_check_digit_holds("3150-6")
        (True, False)
    """
    number, _, check = code.partition("-")
    if not (number.isdigit() and check.isdigit() and len(check) == 1):
        return False
    total = 0
    for position, digit in enumerate(reversed(number)):
        doubled = int(digit) * (2 if position % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return (10 - total % 10) % 10 == int(check)
