"""Documents with their groups and labels in, a verified corpus out.

A group is what a split must not cut: a patient, or a report that several documents quote. A corpus carries a
fingerprint, so that what a model was trained on can be told from the model alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from models.errors import DataError
from models.text.documents import Documents, Span

__all__ = ["Corpus", "CorpusReport", "Span", "concat_corpora", "make_corpus"]


@dataclass(frozen=True)
class CorpusReport:
    """Counts of a corpus; no text.

    Args:
        documents, groups, characters: what is in the corpus.
        unlabelled: documents without label and span.
        labels: documents of every label, or spans of it; most frequent first.
        parts: documents of every part that the source itself names.
        rejected: rows that were left out, by reason.
    """

    documents: int
    groups: int
    characters: int
    unlabelled: int
    labels: dict[str, int]
    parts: dict[str, int]
    rejected: dict[str, int]


@dataclass(frozen=True)
class Corpus:
    """Documents with their groups, labels and spans.

    Args:
        documents: the texts.
        group: patient or report of every document.
        labels: label names of every document: one for classes, any number for several labels, empty if unlabelled.
        spans: labelled stretches of every document, sorted.
        part: the source's own part of every document (`train`, `devel`), empty where it has none.
        source: where the data come from.
        licence: licence of the data.
        rejected: rows that the source left out, by reason.
    """

    documents: Documents
    group: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    spans: tuple[tuple[Span, ...], ...]
    part: tuple[str, ...]
    source: str
    licence: str
    rejected: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses columns that do not fit each other."""
        for name in ("group", "labels", "spans", "part"):
            if len(getattr(self, name)) != len(self.documents):
                raise DataError(
                    f"{name} must be one a document, got {len(getattr(self, name))} for {len(self.documents)}; "
                    "give each its own"
                )
        for text, spans in zip(self.documents.text, self.spans, strict=True):
            if list(spans) != sorted(spans) or any(span.end > len(text) for span in spans):
                raise DataError("spans must be sorted and lie within their text, got others; sort or correct them")
        if any(len(set(labels)) != len(labels) for labels in self.labels):
            raise DataError("labels must name each label of a document once, got one twice; drop the second")

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def language(self) -> str:
        """Language of the documents: `en`, `ja` or empty."""
        return self.documents.language

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """Every label of documents, sorted."""
        return tuple(sorted({label for labels in self.labels for label in labels}))

    @cached_property
    def span_labels(self) -> tuple[str, ...]:
        """Every label of spans, sorted."""
        return tuple(sorted({span.label for spans in self.spans for span in spans}))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every column, whatever the encoding on disk."""
        spans = [[[s.start, s.end, s.label] for s in own] for own in self.spans]
        documents = self.documents
        columns = (documents.language, documents.document_id, documents.text, self.group, self.labels, spans, self.part)
        digest = hashlib.sha256()
        for column in columns:
            digest.update(json.dumps(column).encode("ascii") + b"\n")
        return "sha256:" + digest.hexdigest()

    @cached_property
    def report(self) -> CorpusReport:
        """Counts of what the corpus holds, beside what its source rejected."""
        labels = Counter(label for own in self.labels for label in own)
        labels.update(span.label for spans in self.spans for span in spans)
        return CorpusReport(
            documents=len(self),
            groups=len(set(self.group)),
            characters=sum(map(len, self.documents.text)),
            unlabelled=sum(not own and not spans for own, spans in zip(self.labels, self.spans, strict=True)),
            labels=dict(sorted(labels.items(), key=lambda item: (-item[1], item[0]))),
            parts=dict(sorted(Counter(part for part in self.part if part).items())),
            rejected=dict(sorted(self.rejected.items())),
        )

    def select(self, rows: Sequence[int]) -> Corpus:
        """The corpus of these documents alone, in this order."""
        return replace(
            self,
            documents=self.documents.select(rows),
            group=tuple(self.group[i] for i in rows),
            labels=tuple(self.labels[i] for i in rows),
            spans=tuple(self.spans[i] for i in rows),
            part=tuple(self.part[i] for i in rows),
        )


def make_corpus(
    documents: Documents,
    *,
    source: str,
    licence: str,
    group: Sequence[str] | None = None,
    labels: Sequence[Sequence[str]] | None = None,
    spans: Sequence[Sequence[Span]] | None = None,
    part: Sequence[str] | None = None,
    rejected: dict[str, int] | None = None,
) -> Corpus:
    """A corpus whose absent columns are empty; without groups every document is its own.

    Raises:
        DataError: if columns do not fit each other.
    """
    count = len(documents)
    return Corpus(
        documents=documents,
        group=tuple(documents.document_id if group is None else group),
        labels=tuple(tuple(own) for own in labels) if labels is not None else ((),) * count,
        spans=tuple(tuple(sorted(own)) for own in spans) if spans is not None else ((),) * count,
        part=("",) * count if part is None else tuple(part),
        source=source,
        licence=licence,
        rejected={reason: number for reason, number in (rejected or {}).items() if number},
    )


def concat_corpora(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus of all documents; its language is empty where theirs differ.

    Raises:
        DataError: if there is no corpus, or a document occurs twice.
    """
    if not corpora:
        raise DataError("corpora must be at least one, got none; name a folder that `sequela prepare` wrote")
    if len(corpora) == 1:
        return corpora[0]
    languages = {corpus.language for corpus in corpora}
    rejected: Counter[str] = Counter()
    for corpus in corpora:
        rejected.update(corpus.rejected)
    return Corpus(
        documents=Documents(
            tuple(i for corpus in corpora for i in corpus.documents.document_id),
            tuple(text for corpus in corpora for text in corpus.documents.text),
            languages.pop() if len(languages) == 1 else "",
        ),
        group=tuple(g for corpus in corpora for g in corpus.group),
        labels=tuple(own for corpus in corpora for own in corpus.labels),
        spans=tuple(own for corpus in corpora for own in corpus.spans),
        part=tuple(p for corpus in corpora for p in corpus.part),
        source=" + ".join(dict.fromkeys(corpus.source for corpus in corpora)),
        licence=" + ".join(dict.fromkeys(corpus.licence for corpus in corpora)),
        rejected=dict(rejected),
    )
