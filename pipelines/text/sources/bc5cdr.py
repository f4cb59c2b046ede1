"""The BC5CDR archive of tagged sentences in, a corpus of sentences with chemicals and diseases as spans out.

The file gives tokens and IOB tags, a blank line between sentences, and does not say where an abstract ends. A
document is a sentence, its tokens joined by a space; a group is a run of sentences of one file, several abstracts
long, so that hardly an abstract lies on both sides of a split. `train` and `devel` are parts of their own.

Source: BioCreative V chemical-disease relation task (Li et al. 2016), freely released.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.errors import DataError
from models.text.documents import Documents, Span
from pipelines.sources.files import TextFile, read_files
from pipelines.text.corpus import Corpus, make_corpus

_SENTENCES_OF_GROUP = 40
Token = tuple[str, str]


def read(paths: Sequence[Path]) -> Corpus:
    """Reads the archive, or the folder or files that were in it.

    Raises:
        DataError: if there is no such file, or a line is not a token and its tag.
    """
    ids, texts, groups, spans, parts = [], [], [], [], []
    rejected: Counter[str] = Counter()
    for file in read_files(paths, suffix=".tsv", progress=False):
        for number, tokens in enumerate(_sentences(file)):
            ids.append(f"{file.stem}-{number:05d}")
            texts.append(" ".join(word for word, _ in tokens))
            groups.append(f"{file.stem}-{number // _SENTENCES_OF_GROUP:04d}")
            spans.append(_spans(tokens, rejected))
            parts.append(file.stem)
    return make_corpus(
        Documents(tuple(ids), tuple(texts), "en"),
        group=groups,
        spans=spans,
        part=parts,
        source="bc5cdr",
        licence="freely released for research",
        rejected=dict(rejected),
    )


def _sentences(file: TextFile) -> Iterator[list[Token]]:
    try:
        lines = file.data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{file.name} must be text in UTF-8, got other bytes; fetch it again") from None
    tokens: list[Token] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            word, _, tag = line.partition("\t")
            if not word.strip() or not (tag == "O" or tag[:2] in ("B-", "I-")):
                raise DataError(
                    f"line {number} of {file.name} must be a token, a tab and an IOB tag, got another line; "
                    "fetch the file again"
                )
            tokens.append((word, tag))
        elif tokens:
            yield tokens
            tokens = []


def _spans(tokens: Sequence[Token], rejected: Counter[str]) -> list[Span]:
    """The sentence's spans; an inside tag without its beginning begins one and is counted."""
    spans: list[Span] = []
    start = 0
    previous = "O"
    for word, tag in tokens:
        end = start + len(word)
        if tag.startswith("I-") and previous[2:] == tag[2:]:
            spans[-1] = Span(spans[-1].start, end, spans[-1].label)
        elif tag != "O":
            rejected["tag_inside_without_beginning"] += tag.startswith("I-")
            spans.append(Span(start, end, tag[2:]))
        previous = tag
        start = end + 1
    return spans
