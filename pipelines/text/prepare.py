"""A source of documents in, a written corpus out: which source reads what, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from models.errors import UsageError
from pipelines.cohort_files import CORPUS_HEADER, check_target
from pipelines.prepare_report import line
from pipelines.text.corpus import Corpus, CorpusReport
from pipelines.text.corpus_files import write_corpus

_MOST_LABELS = 40


class DocumentSource(StrEnum):
    """What `sequela prepare` reads into a corpus."""

    BC5CDR = "bc5cdr"
    DOCUMENTS = "documents"
    JMED = "jmed"
    MTSAMPLES = "mtsamples"


_OPTIONS: dict[DocumentSource, tuple[str, ...]] = {
    DocumentSource.BC5CDR: (),
    DocumentSource.DOCUMENTS: ("language", "spans"),
    DocumentSource.JMED: ("form",),
    DocumentSource.MTSAMPLES: (),
}


def prepare_documents(
    source: str,
    paths: Sequence[Path],
    *,
    out: Path,
    mapping: Path | None = None,
    options: Mapping[str, str] | None = None,
) -> Corpus:
    """Reads a source and writes its corpus, all of it or nothing.

    Args:
        source: name of the source, see `DocumentSource`.
        paths: its files, folders or archives.
        out: folder of the corpus; a corpus that is there already is replaced.
        mapping: the mapping file (source documents).
        options: `language` and `spans` (documents), `form` (jmed).

    Raises:
        UsageError: for an unknown source, or an argument that the source does not take.
        DataError: if a file is malformed, or `out` holds anything but a corpus.
    """
    check_target(out, header_name=CORPUS_HEADER)
    if source not in list(DocumentSource):
        raise UsageError(f"source must be one of {', '.join(DocumentSource)}, got {source!r}; choose one of them")
    if not paths:
        raise UsageError(f"paths must name the files of the source {source}, got none; name a file or a folder")
    corpus = _read(DocumentSource(source), paths, mapping=mapping, options=dict(options or {}))
    write_corpus(corpus, out)
    return corpus


def _read(source: DocumentSource, paths: Sequence[Path], *, mapping: Path | None, options: dict[str, str]) -> Corpus:
    """Reads a source; its module is imported only now, so that no source waits for another's libraries."""
    given = [*options, *(["mapping"] if mapping is not None and source is not DocumentSource.DOCUMENTS else [])]
    for name in given:
        if name not in _OPTIONS[source]:
            raise UsageError(f"{name} must be left out for the source {source}, got one; drop it")
    match source:
        case DocumentSource.BC5CDR:
            from pipelines.text.sources import bc5cdr

            return bc5cdr.read(paths)
        case DocumentSource.DOCUMENTS:
            from pipelines.text.sources import csv_documents

            return csv_documents.read(paths, mapping=mapping, options=options)
        case DocumentSource.JMED:
            from pipelines.text.sources import jmed

            return jmed.read(paths, **options)
        case DocumentSource.MTSAMPLES:
            from pipelines.text.sources import mtsamples

            return mtsamples.read(paths)


def report_lines(report: CorpusReport) -> list[str]:
    """The report for people, one fact a line."""
    lines = [
        line("documents", f"{report.documents:,}"),
        line("groups", f"{report.groups:,}"),
        line("characters", f"{report.characters:,}"),
        line("documents without label", f"{report.unlabelled:,}"),
    ]
    lines += [line(f"part {part}", f"{count:,}") for part, count in report.parts.items()]
    lines += [line(f"label {name}", f"{count:,}") for name, count in list(report.labels.items())[:_MOST_LABELS]]
    if len(report.labels) > _MOST_LABELS:
        lines.append(line("further labels", f"{len(report.labels) - _MOST_LABELS:,}"))
    return lines + [line(f"rejected: {reason}", f"{count:,}") for reason, count in report.rejected.items()]
