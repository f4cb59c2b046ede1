"""What `sequela prepare` found: counts in, a record and lines for people out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.channels import Channel
from models.intake import Rejection, outside_soft_limits
from models.stay import Stays
from pipelines.outcomes import Outcomes

MINUTES_PER_HOUR = 60
_TITLE_WIDTH = 32


@dataclass
class Tally:
    """Counts that a source keeps while it reads.

    Args:
        rejected: number of rejected values by reason.
        by_channel: the same by channel (or static variable) and reason, where the channel is known.
        unknown_outcomes: rows of the outcomes file whose stay is not in the source.
    """

    rejected: Counter[Rejection] = field(default_factory=Counter)
    by_channel: dict[str, Counter[Rejection]] = field(default_factory=lambda: defaultdict(Counter))
    unknown_outcomes: int = 0

    def reject(self, reason: Rejection, count: int, channel: str | None = None) -> None:
        """Counts `count` rejected values."""
        if count:
            self.rejected[reason] += count
            if channel is not None:
                self.by_channel[channel][reason] += count

    def reject_each(self, reason: Rejection, channels: Sequence[Channel], channel: NDArray[np.int16]) -> None:
        """Counts rejected values, one an entry of `channel`, an index into `channels`."""
        for declared, count in zip(channels, np.bincount(channel, minlength=len(channels)).tolist(), strict=True):
            self.reject(reason, count, declared.name)

    def add_report(self, report: PrepareReport) -> None:
        """Counts what another source's report says it rejected."""
        self.rejected.update({Rejection(reason): count for reason, count in report.rejected.items()})
        for name, counts in report.rejected_by_channel.items():
            self.by_channel[name].update({Rejection(reason): count for reason, count in counts.items()})
        self.unknown_outcomes += report.unknown_outcomes


@dataclass(frozen=True)
class OutcomeSummary:
    """One outcome over the stays that have it; `positive` and `prevalence` where it is a yes or no."""

    labelled: int
    positive: int | None
    prevalence: float | None
    mean: float


@dataclass(frozen=True)
class PrepareReport:
    """Counts of a cohort.

    Args:
        stays, patients, observations, notes: what is in the cohort.
        stays_without_observation: stays that are kept although nothing was measured.
        stays_without_outcome: stays that are kept unlabelled.
        unknown_outcomes: rows of the outcomes file whose stay is not in the source.
        rejected: number of rejected values by reason.
        rejected_by_channel: the same by channel and reason, where the channel is known.
        flagged: kept values outside soft limits.
        outcomes: summary by outcome.
        time_range_h: hours of the first and last observation; (0, 0) without any.
    """

    stays: int
    patients: int
    observations: int
    notes: int
    stays_without_observation: int
    stays_without_outcome: int
    unknown_outcomes: int
    rejected: dict[str, int]
    rejected_by_channel: dict[str, dict[str, int]]
    flagged: int
    outcomes: dict[str, OutcomeSummary]
    time_range_h: tuple[float, float]

    def lines(self) -> list[str]:
        """The report for people, one fact a line."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        yield line("stays", f"{self.stays:,}")
        yield line("patients", f"{self.patients:,}")
        yield line("observations", f"{self.observations:,}")
        yield line("notes", f"{self.notes:,}")
        yield line("stays without observation", f"{self.stays_without_observation:,}")
        yield line("stays without outcome", f"{self.stays_without_outcome:,}")
        yield line("outcomes of unknown stays", f"{self.unknown_outcomes:,}")
        yield line("outside_soft_limits (kept)", f"{self.flagged:,}")
        for reason, count in sorted(self.rejected.items()):
            yield line(f"rejected: {reason}", f"{count:,}{self._where(reason)}")
        for name, outcome in self.outcomes.items():
            yield line(f"outcome {name}", _describe(outcome))
        yield line("time range", f"{self.time_range_h[0]:.1f} h to {self.time_range_h[1]:.1f} h")

    def _where(self, reason: str) -> str:
        counts = {name: c[reason] for name, c in self.rejected_by_channel.items() if reason in c}
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{name} {count:,}" for name, count in most[:5])
        more = f", {len(most) - 5} more" if len(most) > 5 else ""
        return f"  ({named}{more})" if named else ""


def line(title: str, fact: str) -> str:
    """One line of a report for people."""
    return f"{title:<{_TITLE_WIDTH - 1}} {fact}"


def _describe(outcome: OutcomeSummary) -> str:
    if outcome.positive is None or outcome.prevalence is None:
        return f"{outcome.labelled:,} stays, mean {outcome.mean:.2f}"
    return f"{outcome.positive:,} of {outcome.labelled:,} stays ({outcome.prevalence:.1%})"


def make_report(
    stays: Stays, patient_id: tuple[str, ...], outcomes: Outcomes, channels: tuple[Channel, ...], tally: Tally
) -> PrepareReport:
    """Counts what a cohort holds, beside what its source rejected."""
    labelled = len(np.unique(outcomes.stay))
    hours = stays.time_min / MINUTES_PER_HOUR
    return PrepareReport(
        stays=len(stays),
        patients=len(set(patient_id)),
        observations=len(stays.value),
        notes=len(stays.note_text),
        stays_without_observation=int(np.sum(np.diff(stays.offsets) == 0)),
        stays_without_outcome=len(stays) - labelled,
        unknown_outcomes=tally.unknown_outcomes,
        rejected={str(reason): count for reason, count in sorted(tally.rejected.items())},
        rejected_by_channel={
            name: {str(reason): count for reason, count in sorted(counts.items())}
            for name, counts in sorted(tally.by_channel.items())
        },
        flagged=int(np.sum(outside_soft_limits(channels, stays.channel, stays.value))),
        outcomes={name: _summary(outcomes, code) for code, name in enumerate(outcomes.names)},
        time_range_h=(float(hours.min()), float(hours.max())) if len(hours) else (0.0, 0.0),
    )


def _summary(outcomes: Outcomes, code: int) -> OutcomeSummary:
    value = outcomes.value[outcomes.code == code]
    mean = float(value.mean()) if len(value) else 0.0
    if not np.isin(value, (0.0, 1.0)).all():
        return OutcomeSummary(labelled=len(value), positive=None, prevalence=None, mean=mean)
    return OutcomeSummary(labelled=len(value), positive=int(value.sum()), prevalence=mean, mean=mean)
