import os
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from models.errors import ConfigError, DataError, UsageError
from pipelines.text.prepare import DocumentSource, prepare_documents, report_lines
from pipelines.text.sources import bc5cdr, csv_documents, jmed, mtsamples

DATA = os.environ.get("SEQUELA_DATA")
real_data = pytest.mark.skipif(DATA is None, reason="needs the environment variable SEQUELA_DATA")
IOB = "Selegiline\tB-Chemical\n-\tO\ninduced\tO\nlow\tB-Disease\npressure\tI-Disease\n\nNo\tO\nharm\tI-Disease\n.\tO\n"


def mtsamples_file(folder: Path) -> Path:
    """25 surgery texts, each under radiology too, and 19 of a rare specialty."""
    rows = [(f"operation {i}", name) for name in (" Surgery", " Radiology") for i in range(25)]
    rows += [(f"scan {i}", " Radiology") for i in range(21)] + [(f"nap {i}", " Sleep") for i in range(19)]
    rows += [("OPERATION  3", " Surgery"), ("  ", " Surgery")]
    table = pd.DataFrame(
        {
            "note_id": range(len(rows)),
            "description": "d",
            "medical_specialty": [name for _, name in rows],
            "sample_name": "s",
            "transcription": [text for text, _ in rows],
            "keywords": "k",
        }
    )
    table.to_csv(folder / "mtsamples.csv.xz", index=False)
    return folder / "mtsamples.csv.xz"


def test_each_distinct_text_has_the_first_of_its_frequent_specialties(tmp_path):
    corpus = mtsamples.read([mtsamples_file(tmp_path)])
    assert corpus.report.labels == {"Surgery": 25, "Radiology": 21}
    assert corpus.report.rejected == {"no_text": 1, "rare_specialty": 19, "repeated_text": 26}
    assert len(set(corpus.group)) == len(corpus) == 46
    assert corpus.language == "en"
    assert mtsamples.read([tmp_path]) == corpus


def test_iob_becomes_text_with_spans(tmp_path):
    (tmp_path / "train.tsv").write_text(IOB, encoding="utf-8")
    corpus = bc5cdr.read([tmp_path])
    first, second = corpus.documents.text
    assert [(first[s.start : s.end], s.label) for s in corpus.spans[0]] == [
        ("Selegiline", "Chemical"),
        ("low pressure", "Disease"),
    ]
    assert [second[s.start : s.end] for s in corpus.spans[1]] == ["harm"]
    assert corpus.part == ("train", "train")
    assert corpus.report.rejected == {"tag_inside_without_beginning": 1}
    with tarfile.open(tmp_path / "all.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "train.tsv", "data/train.tsv")
    assert bc5cdr.read([tmp_path / "all.tar.xz"]) == corpus


@pytest.mark.parametrize("line", ["word", "word\tX-Disease", "\tO"])
def test_a_line_that_is_no_tagged_token_is_refused_without_its_text(tmp_path, line):
    (tmp_path / "train.tsv").write_text(IOB + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 11 of train\.tsv") as caught:
        bc5cdr.read([tmp_path])
    assert "word" not in str(caught.value)


def jmed_file(folder: Path, name: str, rows: list[tuple[str, str, str, str]], options: str = "AB") -> Path:
    table = pd.DataFrame(
        {
            "tag": [tag for tag, *_ in rows],
            "question": [f"{question}\n「{report}」" for _, question, report, _ in rows],
            **{f"option{letter}": "x" for letter in options},
            "answer": [answer for *_, answer in rows],
        }
    )
    table.to_csv(folder / f"{name}.csv.xz", index=False)
    return folder / f"{name}.csv.xz"


def test_a_question_is_a_document_and_its_report_the_group(tmp_path):
    rows = [
        ("T", "「原発」は？", "肺に「影」あり。", "B"),
        ("N", "転移は？", "肺に「影」あり。", "A"),
        ("T", "?", "", "A"),
    ]
    corpus = jmed.read([jmed_file(tmp_path, "rrtnm", rows, "ABC")])
    assert corpus.labels == (("T:B",), ("N:A",))
    assert corpus.group[0] == corpus.group[1]
    assert corpus.documents.text[0] == "「原発」は？\n「肺に「影」あり。」"
    assert corpus.report.rejected == {"no_report": 1}


def test_a_report_can_be_the_document_with_all_its_answers(tmp_path):
    three = [("T", "?", "影あり。", "B"), ("N", "?", "影あり。", "A")]
    assert jmed.read([jmed_file(tmp_path, "a", three, "ABC")], form="report").labels == (("T:B", "N:A"),)
    yes = [("fever", "?", "熱い", "A"), ("cough", "?", "熱い", "B"), ("fever", "?", "元気", "B")]
    assert jmed.read([jmed_file(tmp_path, "b", yes)], form="report").labels == (("fever",), ())
    twice = [("T", "?", "影あり。", "B"), ("T", "?", "影あり。", "A")]
    with pytest.raises(DataError, match="several answers"):
        jmed.read([jmed_file(tmp_path, "c", twice)], form="report")


def test_listed_words_become_spans_at_all_their_places_the_longer_first(tmp_path):
    report = "肺癌あり。多発肺癌。ＬＶＦＸ投与。"
    rows = [("d", "?", report, "['肺癌', '多発肺癌', '熱']"), ("m", "?", report, "['ＬＶＦＸ']")]
    corpus = jmed.read([jmed_file(tmp_path, "crner", rows, "")])
    assert [(report[s.start : s.end], s.label) for s in corpus.spans[0]] == [
        ("肺癌", "d"),
        ("多発肺癌", "d"),
        ("ＬＶＦＸ", "m"),
    ]
    assert corpus.report.rejected == {"word_not_in_report": 1}


@pytest.mark.parametrize("answer", ["肺癌", "[1]", "['肺癌'", "__import__('os')"])
def test_an_answer_that_is_no_list_is_refused_without_its_text(tmp_path, answer):
    with pytest.raises(DataError, match="row 1") as caught:
        jmed.read([jmed_file(tmp_path, "crner", [("d", "?", "肺癌", answer)], "")])
    assert "肺癌" not in str(caught.value)


DOCUMENTS = "document_id,patient_id,text,label\n1,p1,fever today,yes\n2,p1,,no\n3,p2,no fever,\n"


def test_a_hospitals_own_documents_become_a_corpus(tmp_path):
    (tmp_path / "documents.csv").write_text(DOCUMENTS, encoding="utf-8")
    (tmp_path / "spans.csv").write_text("document_id,start,end,label\n1,0,5,S\n9,0,1,S\n", encoding="utf-8")
    corpus = csv_documents.read([tmp_path], options={"language": "en"})
    assert corpus.documents.document_id == ("1", "3")
    assert corpus.group == ("p1", "p2")
    assert corpus.labels == (("yes",), ())
    assert [(s.start, s.end) for s in corpus.spans[0]] == [(0, 5)]
    assert corpus.report.rejected == {"no_text": 1, "span_of_unknown_document": 1}


def test_a_mapping_names_columns_files_and_licence(tmp_path):
    text = "NR;PAT;BODY;CODES;X\n1;p1;発熱, あり;a;b;z\n".replace("a;b", '"a;b"')
    (tmp_path / "notes.csv").write_bytes(text.encode("cp932"))
    (tmp_path / "map.toml").write_text(
        'source = "ward"\nlicence = "own"\nencoding = "cp932"\ndelimiter = ";"\nfiles.documents = "notes.csv"\n'
        'columns.documents = { document_id = "NR", patient_id = "PAT", text = "BODY", labels = "CODES" }\n'
        'ignore.columns = ["X"]\n',
        encoding="utf-8",
    )
    corpus = csv_documents.read([tmp_path], mapping=tmp_path / "map.toml", options={"language": "ja"})
    assert (corpus.labels, corpus.source, corpus.licence) == ((("a", "b"),), "ward", "own")
    assert corpus.documents.text == ("発熱, あり",)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("document_id,patient_id,text\n1,p,secret\n1,p,secret\n", "line 3"),
        ("document_id,patient_id,text\n1,,secret\n", "patient_id"),
        ("document_id,text\n1,secret\n", "patient_id"),
        ("document_id,patient_id,text\n", "at least one document"),
        ("document_id,patient_id,text\n1,p, \n", "none in 1 rows"),
        ("document_id,patient_id,text,label,labels\n1,p,secret,a,b\n", "both columns"),
    ],
)
def test_documents_that_do_not_hold_are_refused_without_their_text(tmp_path, table, message):
    (tmp_path / "documents.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        csv_documents.read([tmp_path])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("span", ["1,0,99,S", "1,3,2,S", "1,x,2,S", "1,0,2,", "1,0," + "9" * 5000 + ",S"])
def test_a_span_beyond_its_text_is_refused(tmp_path, span):
    (tmp_path / "documents.csv").write_text(DOCUMENTS, encoding="utf-8")
    (tmp_path / "spans.csv").write_text(f"document_id,start,end,label\n{span}\n", encoding="utf-8")
    with pytest.raises(DataError, match="span"):
        csv_documents.read([tmp_path])


def test_options_that_do_not_hold_are_refused(tmp_path):
    path = mtsamples_file(tmp_path)
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="source"):
        prepare_documents("nowhere", [path], out=out)
    with pytest.raises(UsageError, match="paths"):
        prepare_documents("mtsamples", [], out=out)
    with pytest.raises(UsageError, match="form must be left out"):
        prepare_documents("mtsamples", [path], out=out, options={"form": "report"})
    with pytest.raises(UsageError, match="mapping must be left out"):
        prepare_documents("mtsamples", [path], out=out, mapping=path)
    with pytest.raises(UsageError, match="form must be one of"):
        jmed.read([path], form="book")
    with pytest.raises(UsageError, match="language"):
        csv_documents.read([path], options={"language": "de"})
    with pytest.raises(ConfigError, match="mapping"):
        csv_documents.read([path], mapping=tmp_path / "none.toml")
    with pytest.raises(DataError, match="got none at absent"):
        csv_documents.read([tmp_path / "absent.csv"])
    with pytest.raises(DataError, match="path must be one file"):
        mtsamples.read([tmp_path, tmp_path])


def test_the_report_of_many_labels_stays_short(tmp_path):
    rows = "".join(f"{i},p,text,label {i}\n" for i in range(50))
    (tmp_path / "documents.csv").write_text("document_id,patient_id,text,label\n" + rows, encoding="utf-8")
    lines = report_lines(csv_documents.read([tmp_path]).report)
    assert len([line for line in lines if line.startswith("label ")]) == 40
    assert any("further labels" in line and "10" in line for line in lines)


@real_data
@pytest.mark.parametrize(
    ("source", "path", "documents", "groups", "labels"),
    [
        ("mtsamples", "notes-en/mtsamples.csv.xz", 1835, 1835, 17),
        ("bc5cdr", "notes-en/bc5cdr.tar.xz", 9141, 229, 2),
        ("jmed", "notes-ja/crade.csv.xz", 1412, 126, 8),
        ("jmed", "notes-ja/rrtnm.csv.xz", 282, 94, 11),
        ("jmed", "notes-ja/smdis.csv.xz", 12136, 1517, 16),
        ("jmed", "notes-ja/crner.csv.xz", 122, 122, 3),
        ("jmed", "notes-ja/rrner.csv.xz", 56, 56, 1),
    ],
)
def test_the_published_files_are_read_whole(tmp_path, source, path, documents, groups, labels):
    corpus = prepare_documents(DocumentSource(source), [Path(str(DATA)) / path], out=tmp_path / "corpus")
    report = corpus.report
    assert (report.documents, report.groups, len(report.labels)) == (documents, groups, labels)
    assert set(report.rejected) <= {"rare_specialty", "repeated_text"}
