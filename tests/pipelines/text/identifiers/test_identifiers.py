import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError, DataError
from pipelines.text.identifiers.guard import IdentifiersConfig, guard
from pipelines.text.identifiers.kinds import IdentifierKind
from pipelines.text.identifiers.names_en import GIVEN_NAMES, SURNAMES
from pipelines.text.identifiers.names_ja import GIVEN_NAMES as GIVEN_JA
from pipelines.text.identifiers.names_ja import PREFECTURES
from pipelines.text.identifiers.names_ja import SURNAMES as SURNAMES_JA
from pipelines.text.identifiers.rules import narrow
from pipelines.text.identifiers.scan import find, merged, scan

BEFORE = st.sampled_from(("", "The patient is stable. ", "Past history: hypertension 140/90, ", "患者は安定している。"))
AFTER = st.sampled_from(("", ". Follow up as needed.", ", no acute distress", "。経過良好。"))
DIGITS = "0123456789"


def kinds(text):
    return {str(finding.kind) for finding in find(text)}


def digits(count):
    return st.text(DIGITS, min_size=count, max_size=count)


unlisted = st.from_regex(r"[A-Z][a-z]{3,9}", fullmatch=True).filter(lambda w: w.lower() not in ("general", "sample"))
english_names = st.one_of(
    st.builds("{} {}".format, st.sampled_from(sorted(GIVEN_NAMES)), st.sampled_from(sorted(SURNAMES))).filter(
        lambda name: len(set(name.split())) == 2
    ),
    st.builds("{} {}".format, st.sampled_from(["Mr.", "Mrs.", "Dr."]), st.sampled_from(sorted(SURNAMES))),
    st.builds("Dr. {}".format, st.sampled_from(["Okonkwo", "Vanderbilt", "Petrovic", "O'Hara", "Smith-Jones"])),
    st.builds("{} {}, M.D.".format, st.sampled_from(["Ayo", "Ilse"]), st.sampled_from(["Okonkwo", "Petrovic"])),
    st.builds("PATIENT NAME: {}".format, st.sampled_from(["Okonkwo", "Ayo Petrovic"])),
)
japanese_names = st.one_of(
    st.builds("{}{}".format, st.sampled_from(sorted(SURNAMES_JA)), st.sampled_from(sorted(GIVEN_JA))),
    st.builds("{}　{}".format, st.sampled_from(sorted(SURNAMES_JA)), st.sampled_from(["勝利", "薫", "三奈子"])),
    st.builds(
        "{}{}".format, st.sampled_from(sorted(SURNAMES_JA)), st.sampled_from(["さん", "様", "氏", "医師", "先生"])
    ),
    st.builds("氏名：{}".format, st.sampled_from(["榊原美羽", "鷲尾　薫"])),
    st.builds("主治医：{}".format, st.sampled_from(["榊原", "鷲尾"])),
)
MONTHS = ("Jan", "February", "march", "May", "August", "Sept.", "December")
dates = st.one_of(
    st.builds("{:02}/{:02}/{}".format, st.integers(1, 12), st.integers(1, 28), st.integers(1920, 2030)),
    st.builds("{}-{:02}-{:02}".format, st.integers(1920, 2030), st.integers(1, 12), st.integers(1, 28)),
    st.builds("{} {}, {}".format, st.sampled_from(MONTHS), st.integers(1, 31), st.integers(1920, 2030)).map(
        lambda text: text[0].upper() + text[1:]
    ),
    st.builds("{}年{}月{}日".format, st.integers(1920, 2030), st.integers(1, 12), st.integers(1, 31)),
    st.builds("令和{}年{}月".format, st.integers(1, 9), st.integers(1, 12)),
    st.builds("H{}.{}.{}".format, st.integers(1, 31), st.integers(1, 12), st.integers(1, 31)),
    st.builds("{}月{}日".format, st.integers(1, 12), st.integers(1, 31)),
)
phones = st.one_of(
    st.builds("({}) {}-{}".format, digits(3), digits(3), digits(4)),
    st.builds("{}-{}-{}".format, digits(3), digits(3), digits(4)),
    st.builds("090-{}-{}".format, digits(4), digits(4)),
    st.builds("03-{}-{}".format, digits(4), digits(4)),
    st.builds("電話{}-{}-{}".format, digits(4), digits(2), digits(4)),
)
records = st.one_of(
    st.builds("MRN: {}".format, digits(7)),
    st.builds("medical record number {}".format, digits(8)),
    st.builds("{}-{}-{}".format, digits(3), digits(2), digits(4)),
    st.builds("患者番号：{}".format, digits(6)),
    st.builds("カルテ番号 {}".format, digits(8)),
)
emails = st.builds(
    "{}@{}.{}".format,
    st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8})?", fullmatch=True),
    st.from_regex(r"[a-z]{2,9}", fullmatch=True),
    st.sampled_from(["com", "or.jp", "org"]),
)
addresses = st.one_of(
    st.builds("{} {} Street".format, st.integers(1, 99999), st.sampled_from(["Oak", "North Main", "Elm"])),
    st.builds("Springfield, IL {}".format, digits(5)),
    st.builds("〒{}-{}".format, digits(3), digits(4)),
    st.builds("{}{}".format, st.sampled_from(PREFECTURES), st.sampled_from(["中央区", "みどり市", "ひかり町"])),
)
SEEDED = [
    ("name", english_names),
    ("name", japanese_names),
    ("date", dates),
    ("phone", phones),
    ("record_number", records),
    ("email", emails),
    ("address", addresses),
]


@pytest.mark.parametrize(("kind", "seeded"), SEEDED, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(SEEDED)])
@given(data=st.data())
def test_a_seeded_identifier_is_found_wherever_it_stands(kind, seeded, data):
    identifier = data.draw(seeded)
    text = data.draw(BEFORE) + identifier + data.draw(AFTER)
    assert kind in kinds(text)


@pytest.mark.parametrize(
    ("kind", "seeded"), [SEEDED[i] for i in (2, 3, 4, 5)], ids=["date", "phone", "record", "email"]
)
@given(data=st.data())
def test_full_width_digits_hide_nothing(kind, seeded, data):
    wide = data.draw(seeded).translate({code - 0xFEE0: code for code in range(0xFF01, 0xFF5F) if code != 0xFF0D})
    assert kind in kinds(wide)


@pytest.mark.parametrize(
    "text",
    [
        "Blood pressure 120/80, pulse 72, temperature 98.6, respirations 16, saturation 98%.",
        "WBC 12,000, hemoglobin 13.5 g/dL, creatinine 1.2, INR 2.5-3.5, pH 7.35.",
        "The Foley catheter was placed. A Babcock clamp and Allis forceps were used.",
        "Parkinson disease, Crohn disease, Hodgkin lymphoma; Glasgow coma scale 15.",
        "Mr. ABCD saw Dr. X. Physical Examination: General Appearance normal.",
        "Take 1 to 2 tablets 3 to 4 times a day; may 5 mg more be given.",
        "患者さんは３８．５℃の発熱あり。水様便と濾胞様の変化を認めた。家族様より。",
        "白血球12000/μL、CRP 5.3mg/dL、血圧120/80mmHg。お母さんと来院。摂氏38度。",
        "左上葉に28mmの不整形腫瘤。胸水なし。多様な陰影、同様の所見。",
        "A Sister Mary Joseph nodule; the son was well. Identity 2 of ID cards.",
        "スリガラス様の陰影、ヘルパーさんが来訪。リハビリの先生。キーパーソン：なし。患者：めまいあり。",
        "S1.2.3に陰影、S8.9.10は保たれる。T1.2.3ではない。",
    ],
)
def test_clinical_text_without_identifiers_is_left_alone(text):
    assert find(text) == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("name", "フリガナ：ヤマダ　タロウ"),
        ("name", "ﾌﾘｶﾞﾅ：ﾔﾏﾀﾞ ﾀﾛｳ"),
        ("name", "氏名：やまだ たろう"),
        ("name", "主治医 佐藤。"),
        ("name", "担当はDr. Okonkwoである"),
        ("name", "紹介状Mary Johnsonより"),
        ("name", "Seen by Dr. van der Meulen."),
        ("name", "His wife, Susan, called."),
        ("record_number", "MRN1234567"),
        ("record_number", "番号MRN 1234567"),
        ("record_number", "カルテNo.123456"),
        ("record_number", "ID 1234567"),
        ("phone", "（０３）１２３４－５６７８"),
    ],
)
def test_other_ways_of_writing_are_found_too(kind, text):
    assert kind in kinds(text)


@pytest.mark.parametrize("part", ["a", "A", "X", "Aa-", "A.", "-", "0-", " ", "田", "市", "佐藤 ", "MRN ", "a@"])
def test_a_long_run_of_one_part_is_scanned_as_fast_as_other_text(part):
    # Rules that read it again from its every letter would not end here.
    assert scan([part * 60_000]).documents == 1


def test_findings_are_sorted_do_not_overlap_and_lie_in_the_text():
    text = "John Smith, MRN 1234567, born 03/17/1950, (555) 123-4567, john@smith.com. 担当：佐藤医師"
    found = find(text)
    assert [str(f.kind) for f in found] == ["name", "record_number", "date", "phone", "email", "name"]
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert text[found[0].start : found[0].end] == "John Smith"


@given(st.text(max_size=80))
def test_any_text_can_be_scanned(text):
    assert len(narrow(text)) == len(text)
    assert all(0 <= f.start < f.end <= len(text) for f in find(text))


TEXTS = ("fever", "Seen 03/17/2008", "Seen 03/17/2008", "call 555-123-4567 on 03/18/2008")


def test_the_report_counts_texts_and_findings_and_holds_no_word_of_them():
    report = scan(TEXTS)
    assert (report.documents, report.documents_with) == (4, 3)
    assert report.findings == {"date": 3, "phone": 1}
    assert report.documents_by_kind == {"date": 3, "phone": 1}
    assert "2008" not in "".join(report.lines())
    twice = merged([report, report])
    assert (twice.documents, twice.findings) == (8, {"date": 6, "phone": 2})


def test_findings_that_nobody_allowed_stop_the_run_without_showing_them():
    with pytest.raises(DataError, match="date in 3, phone in 1 of 4 texts") as caught:
        guard(TEXTS, IdentifiersConfig(), what="corpus")
    assert 'allow = ["date", "phone"]' in str(caught.value)
    assert "2008" not in str(caught.value)


def test_a_declared_kind_or_share_lets_the_run_go_on():
    assert guard(("fever",), IdentifiersConfig(), what="corpus").documents_with == 0
    allowed = IdentifiersConfig(allow=(IdentifierKind.DATE,), at_most={"phone": 0.25})
    assert guard(TEXTS, allowed, what="corpus").findings == {"date": 3, "phone": 1}
    with pytest.raises(DataError, match="phone in 1"):
        guard(TEXTS, IdentifiersConfig(allow=(IdentifierKind.DATE,), at_most={"phone": 0.2}), what="corpus")


@pytest.mark.parametrize("wrong", [{"names": 0.1}, {"name": 1.5}, {"name": -0.1}])
def test_shares_that_are_none_are_refused(wrong):
    with pytest.raises(ConfigError, match="at_most"):
        IdentifiersConfig(at_most=wrong)
