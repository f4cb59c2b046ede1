"""A corpus in, a folder of Parquet files with a header out, all or nothing; and back.

documents: document_id, group, part, text. labels: document, label. spans: document, start, end, label.
`document` is a row of documents. The header `corpus.json` tells the folder from a cohort's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.errors import DataError
from models.record import to_plain
from models.text.documents import Documents, Span
from pipelines.arrow import numbers_from_arrow, numbers_to_arrow, texts_to_arrow
from pipelines.cohort_files import CORPUS_HEADER, read_header, read_table, write_folder
from pipelines.text.corpus import Corpus, concat_corpora

SCHEMA_VERSION = 1
_TABLES = ("documents", "labels", "spans")


def write_corpus(corpus: Corpus, path: Path) -> None:
    """Writes a corpus; one that is there already is replaced.

    Raises:
        DataError: if `path` holds anything but a corpus, or cannot be written.
    """
    header = {
        "schema_version": SCHEMA_VERSION,
        "kind": "corpus",
        "source": corpus.source,
        "licence": corpus.licence,
        "language": corpus.language,
        "fingerprint": corpus.fingerprint,
        "report": to_plain(corpus.report),
    }
    write_folder(_tables(corpus), header, path, header_name=CORPUS_HEADER)


def read_corpus(path: Path) -> Corpus:
    """Reads what `write_corpus` wrote, and verifies its fingerprint.

    Raises:
        DataError: if the folder is no corpus, is damaged or was altered.
    """
    header = read_header(path, schema_version=SCHEMA_VERSION, header_name=CORPUS_HEADER)
    tables = {name: read_table(path, name) for name in _TABLES}
    try:
        corpus = _from_tables(tables, header)
        fingerprint = header["fingerprint"]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, pa.ArrowException) as error:
        raise DataError(
            f"corpus must hold columns that fit each other, got damaged ones in {path}; prepare it again"
        ) from error
    if corpus.fingerprint != fingerprint:
        raise DataError(f"corpus must hold what its fingerprint says, got altered content in {path}; prepare it again")
    return corpus


def read_corpora(folders: Sequence[Path]) -> Corpus:
    """The documents of all folders together.

    Raises:
        DataError: if a folder is no corpus, or two hold one document.
    """
    return concat_corpora([read_corpus(folder) for folder in folders])


def _tables(corpus: Corpus) -> dict[str, pa.Table]:
    labels = [(i, label) for i, own in enumerate(corpus.labels) for label in own]
    spans = [(i, span) for i, own in enumerate(corpus.spans) for span in own]
    documents = {
        "document_id": texts_to_arrow(corpus.documents.document_id),
        "group": texts_to_arrow(corpus.group),
        "part": texts_to_arrow(corpus.part),
        "text": texts_to_arrow(corpus.documents.text),
    }
    named = {"document": _numbers([i for i, _ in labels]), "label": texts_to_arrow([label for _, label in labels])}
    stretches = {
        "document": _numbers([i for i, _ in spans]),
        "start": _numbers([span.start for _, span in spans]),
        "end": _numbers([span.end for _, span in spans]),
        "label": texts_to_arrow([span.label for _, span in spans]),
    }
    return {"documents": pa.table(documents), "labels": pa.table(named), "spans": pa.table(stretches)}


def _numbers(values: list[int]) -> pa.Array:
    return numbers_to_arrow(np.array(values, dtype=np.int64))


def _from_tables(tables: dict[str, pa.Table], header: dict[str, Any]) -> Corpus:
    documents, labels, spans = (tables[name] for name in _TABLES)
    count = documents.num_rows
    own_labels: list[list[str]] = [[] for _ in range(count)]
    own_spans: list[list[Span]] = [[] for _ in range(count)]
    for i, label in zip(_integers(labels, "document"), labels["label"].to_pylist(), strict=True):
        own_labels[i].append(label)
    columns = [_integers(spans, name) for name in ("document", "start", "end")]
    for i, start, end, label in zip(*columns, spans["label"].to_pylist(), strict=True):
        own_spans[i].append(Span(start, end, label))
    return Corpus(
        documents=Documents(
            tuple(documents["document_id"].to_pylist()), tuple(documents["text"].to_pylist()), str(header["language"])
        ),
        group=tuple(documents["group"].to_pylist()),
        labels=tuple(tuple(own) for own in own_labels),
        spans=tuple(tuple(own) for own in own_spans),
        part=tuple(documents["part"].to_pylist()),
        source=str(header["source"]),
        licence=str(header["licence"]),
        rejected={str(reason): int(number) for reason, number in header["report"]["rejected"].items()},
    )


def _integers(table: pa.Table, name: str) -> list[int]:
    values: list[int] = numbers_from_arrow(table[name]).tolist()
    return values
