"""A scan's report and what the run allows in, the same report out or a refusal to go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from models.errors import ConfigError, DataError
from pipelines.text.identifiers.kinds import IdentifierKind
from pipelines.text.identifiers.scan import IdentifierReport, scan


@dataclass(frozen=True)
class IdentifiersConfig:
    """What may identify a person and is nevertheless trained on, because someone looked at it.

    Args:
        allow: kinds whose findings were looked at, for example dates that were shifted already.
        at_most: by kind, the share of texts that may have findings: 0.02 for the false alarms that were looked at.
    """

    allow: tuple[IdentifierKind, ...] = ()
    at_most: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses unknown kinds and shares that are none."""
        for kind, share in self.at_most.items():
            if kind not in list(IdentifierKind):
                raise ConfigError(
                    f"identifiers.at_most must name kinds among {', '.join(IdentifierKind)}, got {kind!r}; rename it"
                )
            if not 0.0 <= share <= 1.0:
                raise ConfigError(f"identifiers.at_most must hold shares from 0 to 1, got {share}; for example 0.02")


def guard(texts: Iterable[str], config: IdentifiersConfig, *, what: str) -> IdentifierReport:
    """Scans texts before they are used, and refuses those with more findings than the run allows.

    Args:
        texts: the texts.
        config: what was looked at and allowed.
        what: how the texts are called in the message, for example `corpus`.

    Raises:
        DataError: if findings are neither allowed nor below their share; it names kinds and counts alone.
    """
    report = scan(texts)
    refused = {kind: number for kind, number in report.documents_by_kind.items() if not _allowed(kind, report, config)}
    if refused:
        counts = ", ".join(f"{kind} in {number:,}" for kind, number in refused.items())
        kinds = ", ".join(f'"{kind}"' for kind in refused)
        raise DataError(
            f"{what} must hold no identifiers of people that the configuration does not allow, got {counts} of "
            f"{report.documents:,} texts; remove them, or look at them and declare [identifiers] allow = [{kinds}] "
            "or a share of texts for each under [identifiers.at_most]"
        )
    return report


def _allowed(kind: str, report: IdentifierReport, config: IdentifiersConfig) -> bool:
    share = report.documents_by_kind[kind] / max(report.documents, 1)
    return kind in config.allow or share <= config.at_most.get(kind, 0.0)
