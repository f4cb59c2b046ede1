import json

import pytest

from models.errors import DataError
from models.text.documents import Documents
from pipelines.cohort_files import is_corpus
from pipelines.text.corpus import Corpus, Span, concat_corpora, make_corpus
from pipelines.text.corpus_files import read_corpus, write_corpus


def small() -> Corpus:
    return make_corpus(
        Documents(("a", "b", "c"), ("fever today", "発熱あり。\n🦊", ""), "en"),
        group=("p1", "p1", "p2"),
        labels=(("x",), ("x", "y"), ()),
        spans=((), (Span(3, 5, "D"), Span(0, 2, "S")), ()),
        part=("train", "devel", ""),
        source="made up",
        licence="CC0",
        rejected={"no_text": 2, "never": 0},
    )


def test_a_corpus_comes_back_from_disk_as_it_was(tmp_path):
    write_corpus(small(), tmp_path / "corpus")
    assert read_corpus(tmp_path / "corpus") == small()
    assert is_corpus(tmp_path / "corpus")
    assert not is_corpus(tmp_path)


def test_an_empty_corpus_comes_back_too(tmp_path):
    empty = make_corpus(Documents((), ()), source="s", licence="l")
    write_corpus(empty, tmp_path / "corpus")
    assert read_corpus(tmp_path / "corpus") == empty


def test_the_report_counts_and_the_header_holds_no_text(tmp_path):
    report = small().report
    assert (report.documents, report.groups, report.unlabelled) == (3, 2, 1)
    assert report.labels == {"x": 2, "D": 1, "S": 1, "y": 1}
    assert report.rejected == {"no_text": 2}
    assert report.parts == {"devel": 1, "train": 1}
    write_corpus(small(), tmp_path / "corpus")
    header = (tmp_path / "corpus" / "corpus.json").read_text(encoding="utf-8")
    assert "fever" not in header
    assert "発熱" not in header


def test_spans_are_sorted_and_names_too():
    assert [span.start for span in small().spans[1]] == [0, 3]
    assert small().label_names == ("x", "y")
    assert small().span_labels == ("D", "S")


def test_every_column_is_in_the_fingerprint():
    base = small()
    changed = [
        make_corpus(Documents(("a", "b", "c"), ("fever today", "発熱あり。\n🦊", ""), "en"), source="", licence=""),
        base.select([1, 0, 2]),
    ]
    assert len({base.fingerprint, *(c.fingerprint for c in changed)}) == 3
    assert base.select([0, 1, 2]) == base


def test_an_altered_corpus_is_refused(tmp_path):
    write_corpus(small(), tmp_path / "corpus")
    path = tmp_path / "corpus" / "corpus.json"
    header = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**header, "language": "ja"}), encoding="utf-8")
    with pytest.raises(DataError, match="altered content"):
        read_corpus(tmp_path / "corpus")
    path.write_text(json.dumps({**header, "schema_version": 99}), encoding="utf-8")
    with pytest.raises(DataError, match="schema version"):
        read_corpus(tmp_path / "corpus")
    path.write_text(json.dumps({k: v for k, v in header.items() if k != "report"}), encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        read_corpus(tmp_path / "corpus")


def test_nothing_but_a_corpus_is_overwritten(tmp_path):
    (tmp_path / "cohort.json").write_text("{}")
    with pytest.raises(DataError, match="a corpus"):
        write_corpus(small(), tmp_path)
    with pytest.raises(DataError, match="corpus must be a folder"):
        read_corpus(tmp_path)


def test_corpora_are_joined_and_a_document_that_is_in_two_is_refused():
    other = make_corpus(Documents(("d",), ("咳",), "ja"), source="other", licence="CC0", rejected={"no_text": 1})
    both = concat_corpora([small(), other])
    assert (len(both), both.language, both.source, both.licence) == (4, "", "made up + other", "CC0")
    assert both.rejected == {"no_text": 3}
    assert concat_corpora([other]) is other
    with pytest.raises(DataError, match="each document once"):
        concat_corpora([small(), small()])
    with pytest.raises(DataError, match="at least one"):
        concat_corpora([])


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": ("p",)},
        {"labels": (("x",),)},
        {"spans": ((Span(0, 99, "D"),), ())},
        {"labels": (("x", "x"), ())},
        {"part": ()},
    ],
)
def test_columns_that_do_not_fit_are_refused(wrong):
    with pytest.raises(DataError):
        make_corpus(Documents(("a", "b"), ("fever", "cough")), source="s", licence="l", **wrong)


@pytest.mark.parametrize(
    "documents",
    [lambda: Documents(("a",), ()), lambda: Documents(("a", "a"), ("x", "y")), lambda: Documents((), (), "de")],
)
def test_documents_that_do_not_fit_are_refused(documents):
    with pytest.raises(DataError):
        documents()


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 2), (3, 1)])
def test_a_span_without_characters_is_refused(start, end):
    with pytest.raises(DataError, match="span must begin"):
        Span(start, end, "D")
