"""A file of JMED-LLM's Japanese questions on reports in, a corpus of questions or of reports out.

A question asks one thing of one report, which stands between the outer brackets of the column `question`; the
report is the group. By default a document is the whole question and its label the tag and the answer together, such
as `T:E`; with `form=report` a document is a report, and its labels are those of all its questions, a yes-or-no one
giving its tag where the answer is yes. Entity lists (`crner`, `rrner`) are always reports, whose spans are all places
of the listed words; of two that overlap, the longer one stays.

Source: JMED-LLM (Social Computing Laboratory, NAIST), CC BY 4.0.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from models.errors import DataError, UsageError
from models.text.documents import Documents, Span
from pipelines.text.corpus import Corpus, make_corpus
from pipelines.text.sources.rows import group_of, only_file, texts_of

_LICENCE = "CC BY 4.0"
_OPTION_COLUMNS = tuple(f"option{letter}" for letter in "ABCDE")
_YES = "A"


class Form(StrEnum):
    """What a document is."""

    QUESTION = "question"
    REPORT = "report"


def read(paths: Sequence[Path], *, form: str = Form.QUESTION) -> Corpus:
    """Reads one of the files.

    Raises:
        UsageError: for an unknown form.
        DataError: if the file is missing or malformed.
    """
    if form not in list(Form):
        raise UsageError(f"form must be one of {', '.join(Form)}, got {form!r}; choose one of them")
    path = only_file(paths, "")
    table = texts_of(path, "questions", required=("tag", "question", "answer"), optional=_OPTION_COLUMNS)
    name, rejected = path.name.partition(".")[0], Counter[str]()
    rows = _rows(table, rejected)
    if "optionA" not in table:
        return _entity_corpus(rows, name, path, rejected)
    yes_or_no = "optionC" not in table
    if form == Form.REPORT:
        return _report_corpus(rows, name, rejected, yes_or_no=yes_or_no)
    return make_corpus(
        Documents(tuple(f"{name}-{i:05d}" for i, *_ in rows), tuple(question for _, question, *_ in rows), "ja"),
        group=[group_of(report) for *_, report, _, _ in rows],
        labels=[(f"{tag}:{answer}",) for *_, tag, answer in rows],
        source=name,
        licence=_LICENCE,
        rejected=dict(rejected),
    )


Row = tuple[int, str, str, str, str]  # number, question, report, tag, answer


def _rows(table: dict[str, list[str]], rejected: Counter[str]) -> list[Row]:
    rows: list[Row] = []
    columns = zip(table["question"], table["tag"], table["answer"], strict=True)
    for number, (question, tag, answer) in enumerate(columns):
        opening, closing = question.find("\n「"), question.rfind("」")
        report = question[opening + 2 : closing].strip() if 0 <= opening < closing else ""
        if not report:
            rejected["no_report"] += 1
        elif not answer.strip():
            rejected["no_answer"] += 1
        else:
            rows.append((number, question, report, tag.strip(), answer.strip()))
    return rows


def _report_corpus(rows: Sequence[Row], name: str, rejected: Counter[str], *, yes_or_no: bool) -> Corpus:
    """One document a report, with the labels of all its questions.

    Raises:
        DataError: if one thing is asked of a report twice, which a label cannot tell apart.
    """
    reports: dict[str, str] = {}
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for _, _, report, tag, answer in rows:
        group = group_of(report)
        reports.setdefault(group, report)
        if labels[group].setdefault(tag, answer) != answer:
            raise DataError(
                f"{name} must ask each thing of a report once for the form report, got several answers; "
                "prepare it with the form question"
            )
    return make_corpus(
        Documents(tuple(f"{name}-{i:05d}" for i in range(len(reports))), tuple(reports.values()), "ja"),
        group=tuple(reports),
        labels=[_labels(labels[group], yes_or_no=yes_or_no) for group in reports],
        source=name,
        licence=_LICENCE,
        rejected=dict(rejected),
    )


def _labels(answers: dict[str, str], *, yes_or_no: bool) -> tuple[str, ...]:
    if yes_or_no:
        return tuple(tag for tag, answer in answers.items() if answer == _YES)
    return tuple(f"{tag}:{answer}" for tag, answer in answers.items())


def _entity_corpus(rows: Sequence[Row], name: str, path: Path, rejected: Counter[str]) -> Corpus:
    reports: dict[str, str] = {}
    words: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for number, _, report, tag, answer in rows:
        group = group_of(report)
        text = reports.setdefault(group, report)
        for word in _listed(answer, path, number):
            if word and word in text:
                words[group].append((word, tag))
            else:
                rejected["word_not_in_report"] += 1
    return make_corpus(
        Documents(tuple(f"{name}-{i:05d}" for i in range(len(reports))), tuple(reports.values()), "ja"),
        group=tuple(reports),
        spans=[_places(reports[group], words[group]) for group in reports],
        source=name,
        licence=_LICENCE,
        rejected=dict(rejected),
    )


def _listed(answer: str, path: Path, number: int) -> list[str]:
    """The words of a list that is written as Python writes it."""
    try:
        found = ast.literal_eval(answer)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise DataError(
            f"answer must be a list of words, got other content in {path.name}, row {number + 1}; correct it"
        )
    return found


def _places(text: str, words: Sequence[tuple[str, str]]) -> list[Span]:
    """Every place of every word, longest words first; a place within a longer one is none."""
    taken = [False] * len(text)
    spans: list[Span] = []
    for word, tag in sorted(set(words), key=lambda item: (-len(item[0]), item)):
        for match in re.finditer(re.escape(word), text):
            start, end = match.span()
            if not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                spans.append(Span(start, end, tag))
    return sorted(spans)
