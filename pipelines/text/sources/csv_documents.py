"""A hospital's own documents and their mapping in, a corpus out.

One table, CSV (plain, gz, xz, bz2) or Parquet: document_id, patient_id (the group) and text; label (one), labels
(several, separated by `;`) and part may be there. A second table of spans (document_id, start, end, label; places
count characters of the text from 0) is for tagging. The mapping is that of a hospital's stays: source, licence,
encoding, delimiter, missing, `[columns.documents]`, `[columns.spans]`, `[ignore]`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.errors import DataError, UsageError
from models.text.documents import LANGUAGES, Documents, Span
from pipelines.sources.csv_mapping import HospitalMapping, load_mapping
from pipelines.sources.csv_tables import Layout, Sheet, read_sheet
from pipelines.text.corpus import Corpus, make_corpus
from pipelines.text.sources.rows import cells, only_file

SEPARATOR = ";"
_LONGEST_PLACE = 15  # digits
_DOCUMENTS = Layout(
    name="documents",
    required=("document_id", "patient_id", "text"),
    optional=("label", "labels", "part"),
    repeated=("patient_id", "label", "part"),
)
_SPANS = Layout(name="spans", required=("document_id", "start", "end", "label"), repeated=("document_id", "label"))


def read(paths: Sequence[Path], *, mapping: Path | None = None, options: Mapping[str, str] | None = None) -> Corpus:
    """Reads the files.

    Args:
        paths: the documents' file, or the folder that holds `documents.csv` and perhaps `spans.csv`.
        mapping: the mapping file; without one, names must be ours already.
        options: `language` (en, ja) and `spans` (a file), where they are given.

    Raises:
        ConfigError: if the mapping does not hold; UsageError: if an option does not.
        DataError: for everything in the files that cannot be read, with its file and line.
    """
    given, hospital = dict(options or {}), load_mapping(mapping)
    language = given.get("language", "")
    if language not in LANGUAGES:
        raise UsageError(f"language must be en, ja or left out, got {language!r}; leave it out for another one")
    sheet = read_sheet(_file(paths, hospital), _DOCUMENTS, hospital, progress=False)
    if sheet.has("label") and sheet.has("labels"):
        raise DataError(f"{sheet.path.name} must have label or labels, got both columns; ignore one in the mapping")
    rejected: Counter[str] = Counter()
    texts = cells(sheet, "text")
    rows = [i for i, text in enumerate(texts) if text.strip()]
    if not rows:
        raise DataError(
            f"{sheet.path.name} must hold at least one document with text, got none in {len(texts)} rows; "
            "write one row a document"
        )
    rejected["no_text"] = len(texts) - len(rows)
    ids, patients = _required(sheet, "document_id", rows), _required(sheet, "patient_id", rows)
    _refuse_repeated(sheet, ids, rows)
    kept = [texts[i] for i in rows]
    return make_corpus(
        Documents(tuple(ids), tuple(kept), language),
        group=patients,
        labels=_labels(sheet, rows, hospital),
        spans=_spans(_spans_file(paths, given, hospital), ids, kept, hospital, rejected),
        part=[part.strip() for part in _of_rows(sheet, "part", rows)] if sheet.has("part") else None,
        source=hospital.source if mapping else "documents",
        licence=hospital.licence,
        rejected=dict(rejected),
    )


def _file(paths: Sequence[Path], mapping: HospitalMapping) -> Path:
    if len(paths) == 1 and paths[0].is_dir() and "documents" in mapping.files:
        return paths[0] / mapping.files["documents"]
    return only_file(paths, "documents")


def _spans_file(paths: Sequence[Path], given: Mapping[str, str], mapping: HospitalMapping) -> Path | None:
    if "spans" in given:
        return Path(given["spans"])
    if len(paths) != 1 or not paths[0].is_dir():
        return None
    if "spans" in mapping.files:
        return paths[0] / mapping.files["spans"]
    return only_file(paths, "spans") if list(paths[0].glob("spans.*")) else None


def _of_rows(sheet: Sheet, column: str, rows: Sequence[int]) -> list[str]:
    every = cells(sheet, column)
    return [every[i] for i in rows]


def _required(sheet: Sheet, column: str, rows: Sequence[int]) -> list[str]:
    """A column's cells in these rows, none of them empty.

    Raises:
        DataError: for an empty cell, with its line.
    """
    every = cells(sheet, column)
    for i in rows:
        if not every[i].strip():
            raise sheet.fault(column, "an identifier", "an empty cell", i, "fill it in")
    return [every[i].strip() for i in rows]


def _refuse_repeated(sheet: Sheet, ids: Sequence[str], rows: Sequence[int]) -> None:
    seen: set[str] = set()
    for name, row in zip(ids, rows, strict=True):
        if name in seen:
            raise sheet.fault("document_id", "new in every row", "one twice", row, "rename or drop the second")
        seen.add(name)


def _labels(sheet: Sheet, rows: Sequence[int], mapping: HospitalMapping) -> list[tuple[str, ...]] | None:
    missing = {"", *mapping.missing}
    if sheet.has("label"):
        single = [cell.strip() for cell in cells(sheet, "label")]
        return [() if single[i] in missing else (single[i],) for i in rows]
    if sheet.has("labels"):
        several = [[name.strip() for name in cell.split(SEPARATOR)] for cell in cells(sheet, "labels")]
        return [tuple(dict.fromkeys(name for name in several[i] if name not in missing)) for i in rows]
    return None


def _spans(
    path: Path | None, ids: Sequence[str], texts: Sequence[str], mapping: HospitalMapping, rejected: Counter[str]
) -> list[list[Span]] | None:
    """The spans of every document; those of documents that are not in the corpus are counted.

    Raises:
        DataError: for a place that is no number or not within its text, with its line.
    """
    if path is None:
        return None
    sheet = read_sheet(path, _SPANS, mapping, progress=False)
    position = {name: i for i, name in enumerate(ids)}
    spans: list[list[Span]] = [[] for _ in ids]
    columns = [cells(sheet, column) for column in ("document_id", "start", "end", "label")]
    for row, (name, start, end, label) in enumerate(zip(*columns, strict=True)):
        i = position.get(name.strip())
        if i is None:
            rejected["span_of_unknown_document"] += 1
            continue
        first, behind = _place(start), _place(end)
        if not 0 <= first < behind <= len(texts[i]) or not label.strip():
            raise sheet.fault(
                "span", "start and end within the text, and a label", "another one", row, "count characters from 0"
            )
        spans[i].append(Span(first, behind, label.strip()))
    return spans


def _place(cell: str) -> int:
    """The number in a cell; -1 where there is none, or one beyond any text."""
    digits = cell.strip()
    return int(digits) if digits.isdecimal() and len(digits) <= _LONGEST_PLACE else -1
