"""Texts in, counts by kind of what may identify a person out; never a word of the texts.

The scan is a net with holes: it finds what rules and short lists know. It does not make a text anonymous.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.text.identifiers.kinds import Finding, IdentifierKind
from pipelines.text.identifiers.names import find_names
from pipelines.text.identifiers.rules import find_by_rules, narrow


@dataclass(frozen=True)
class IdentifierReport:
    """What a scan found.

    Args:
        documents: texts that were scanned.
        documents_with: texts with at least one finding.
        findings: number of findings by kind; kinds without any are absent.
        documents_by_kind: texts with at least one finding of the kind.
    """

    documents: int
    documents_with: int
    findings: dict[str, int]
    documents_by_kind: dict[str, int]

    def lines(self) -> list[str]:
        """The report for people, one fact a line."""
        head = f"texts with possible identifiers: {self.documents_with:,} of {self.documents:,}"
        kinds = (f"  {k}: {n:,} in {self.documents_by_kind[k]:,} texts" for k, n in self.findings.items())
        return [head, *kinds]


def find(text: str) -> list[Finding]:
    """Findings in a text, sorted; of two that overlap, the longer one stays.

    Example:
        >>> [str(finding.kind) for finding in find("Seen by Dr. Johnson on 03/17/2008.")]
        ['name', 'date']
    """
    narrowed = narrow(text)
    found = sorted({*find_by_rules(narrowed), *find_names(narrowed)}, key=lambda f: (f.start - f.end, f))
    kept: list[Finding] = []
    taken: set[int] = set()
    for finding in found:
        places = range(finding.start, finding.end)
        if taken.isdisjoint(places):
            taken.update(places)
            kept.append(finding)
    return sorted(kept)


def scan(texts: Iterable[str]) -> IdentifierReport:
    """Scans every text; equal texts are scanned once and counted each time."""
    times = Counter(texts)
    findings: Counter[IdentifierKind] = Counter()
    with_kind: Counter[IdentifierKind] = Counter()
    touched = 0
    for text, number in times.items():
        kinds = Counter(finding.kind for finding in find(text))
        touched += number if kinds else 0
        for kind, count in kinds.items():
            findings[kind] += count * number
            with_kind[kind] += number
    order = [kind for kind in IdentifierKind if findings[kind]]
    return IdentifierReport(
        documents=times.total(),
        documents_with=touched,
        findings={str(kind): findings[kind] for kind in order},
        documents_by_kind={str(kind): with_kind[kind] for kind in order},
    )


def merged(reports: Sequence[IdentifierReport]) -> IdentifierReport:
    """One report of several sets of texts."""
    findings: Counter[str] = Counter()
    with_kind: Counter[str] = Counter()
    for report in reports:
        findings.update(report.findings)
        with_kind.update(report.documents_by_kind)
    return IdentifierReport(
        documents=sum(report.documents for report in reports),
        documents_with=sum(report.documents_with for report in reports),
        findings=dict(findings),
        documents_by_kind=dict(with_kind),
    )
