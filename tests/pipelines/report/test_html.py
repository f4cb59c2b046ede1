"""The page: whole in itself, well-formed, escaped, readable without its pictures, and without any stay or patient."""

import base64
import html
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from models.artifact import load_artifact
from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.errors import RefusedError
from models.scorer import Scorer
from pipelines.cli import main
from pipelines.evaluation_config import EvaluationConfig
from pipelines.model_card import card_markdown
from pipelines.report.cohort_report import report_on_cohort
from pipelines.report.html import report_html
from pipelines.report.tripod import AUTHORS, tripod_items

QUICK = EvaluationConfig(bootstrap=40)
VOID = {"meta", "img", "br", "link", "hr"}
SECTIONS = (
    "about", "discrimination", "calibration", "decisions", "alerts", "subgroups", "missingness", "comparisons",
    "uncertainty", "model", "tripod", "limits",
)  # fmt: skip


class Page(HTMLParser):
    """Elements of a page; an end tag that closes another element is a fault."""

    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.elements, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append((tag, self.getpos()))

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def facts(line):
    return {**line.good.report, "digest": line.good.digest, "address": "models:/tiny/1"}


@pytest.fixture(scope="module")
def page(facts):
    return report_html(facts)


def test_the_page_is_well_formed_and_has_every_section_once(page):
    parsed = Page(page)
    assert parsed.faults == []
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(SECTIONS) <= set(parsed.ids)
    targets = {attrs["href"][1:] for attrs in parsed.of("a")}
    assert targets <= set(parsed.ids)


def test_the_page_asks_for_nothing_from_elsewhere(page):
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", page) == []
    assert "@import" not in page
    assert "<script" not in page
    assert "url(" not in page


def test_the_disclaimer_stands_at_both_ends_in_both_languages(page):
    for words in (DISCLAIMER_EN, DISCLAIMER_JA):
        assert page.index(words) < page.index("<h1>")
        assert page.rindex(words) > page.index('id="limits"')


def test_pictures_have_words_and_are_drawings_that_parse(page):
    pictures = Page(page).of("img")
    assert len(pictures) >= 7
    for picture in pictures:
        assert len(picture["alt"]) > 20
        head, _, body = picture["src"].partition("base64,")
        assert head == "data:image/svg+xml;"
        assert ET.fromstring(base64.b64decode(body)).tag.endswith("svg")


def test_tables_have_captions_and_headers(page):
    parsed = Page(page)
    tables = page.count("<table")
    assert tables == page.count("<caption>") > 10
    assert all("scope" in attrs for attrs in parsed.of("th"))


def test_the_page_names_model_digest_data_licence_and_every_figure_with_its_interval(page, facts):
    evaluated = facts["evaluated"]
    for words in ("models:/tiny/1", facts["digest"], evaluated["fingerprint"], evaluated["licence"]):
        assert words in html.unescape(page)
    entry = facts["metrics"]["network"]["metrics"]["auroc"]
    assert f"{entry['value']:.3f} [{entry['low']:.3f},\N{NO-BREAK SPACE}{entry['high']:.3f}]" in page
    assert "the simulator's true risk" in html.unescape(page)
    assert "true_risk<" not in page


def test_no_stay_and_no_patient_is_named(page, facts, line):
    text = page + json.dumps(facts)
    for name in (*line.cohort.stays.stay_id, *line.cohort.patient_id):
        assert name not in text


def test_hostile_words_stay_words(facts):
    hostile = "<script>alert('x')</script>"
    named = {
        **facts,
        "name": hostile,
        "task": {**facts["task"], "description": hostile},
        "comparisons": [{"with": hostile, "undefined": hostile}],
        "guards": [{"name": hostile, "passed": True, "detail": hostile}],
        "config": {hostile: hostile},
    }
    page = report_html(named)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert Page(page).faults == []


def test_equal_facts_make_equal_pages(page, facts):
    assert report_html(facts) == page


def test_uncertainty_is_shown_where_the_model_states_it(facts):
    entry = {"value": 0.9123, "low": 0.9, "high": 0.95}
    figures = facts["metrics"]["network"]
    plain = {**figures, "metrics": {k: v for k, v in figures["metrics"].items() if "conformal" not in k}}
    with_sets = {**plain, "metrics": {**plain["metrics"], "conformal_coverage_event_0.9": entry}}
    assert "Conformal coverage event 0.9" in report_html({**facts, "metrics": {"network": with_sets}})
    assert "Conformal coverage" not in report_html({**facts, "metrics": {"network": plain}})


def test_cautions_stand_before_the_figures_and_nowhere_without_one(facts, page):
    warned = report_html({**facts, "cautions": ["1 patient with the event"]})
    assert warned.index("1 patient with the event") < warned.index('id="discrimination"')
    assert Page(warned).faults == []
    assert "Caution:" not in report_html({**facts, "cautions": []})
    assert "## Cautions\n\n- few" in card_markdown({**facts, "cautions": ["few"]})
    assert "## Cautions" not in card_markdown({**facts, "cautions": []})


def test_sections_that_a_task_does_not_have_say_so(facts):
    none = {"undefined": "not for numbers"}
    output = facts["task"]["outputs"][0]
    page = report_html(
        {
            **facts,
            "curves": {},
            "decision_curve": {},
            "reliability": {},
            "history": [],
            "comparisons": [],
            "alerts": {output: none},
            "lead_time": {output: none},
        }
    )
    assert "Not defined for this task." in page
    assert "No other model was given." in page
    assert "not for numbers" in page
    assert Page(page).faults == []


def test_the_checklist_holds_every_item_once_and_leaves_to_people_what_is_theirs(facts):
    items = {item["item"]: item for item in tripod_items(facts)}
    assert {re.match(r"\d+", number).group() for number in items} == {str(n) for n in range(1, 28)}
    assert len(items) == len(tripod_items(facts)) == 52
    assert items["17"] == {"item": "17", "topic": "Ethical approval", "by": "authors", "statement": AUTHORS}
    assert facts["digest"] in items["22"]["statement"]
    assert "50 draws" in items["12e"]["statement"]
    assert all(item["statement"] for item in items.values())


def test_the_command_writes_figures_and_page_and_compares(line, tmp_path, capsys):
    out, page = tmp_path / "figures.json", tmp_path / "page.html"
    command = ["evaluate", str(line.good.artifact), str(line.cohort_folder), "--out", str(out), "--html", str(page)]
    rivals = ["--against", str(line.weak.artifact), "--against", str(line.good.artifact)]
    assert main([*command, *rivals, "--bootstrap", "40"]) == 0
    told = capsys.readouterr()
    assert "every stay of the cohort, which is the one that the model was trained on" in told.out + told.err
    assert "hold-out:" not in told.out + told.err
    figures = json.loads(out.read_text(encoding="utf-8"))
    added = {"decision_curve", "alerts", "lead_time", "subgroups", "missingness", "comparisons"}
    assert added | {"stays", "events", "metrics", "outputs", "model", "disclaimer"} <= set(figures)
    entry, twin = figures["comparisons"]
    assert twin["outputs"]["in_hospital_death"]["auroc"]["value"] == 0
    (caution,) = figures["cautions"]
    assert caution.startswith(f"tiny {line.good.digest[:19]} is the same model")
    assert f"caution: {caution}" in told.out + told.err
    assert entry["with"] == f"tiny {line.weak.digest[:19]}"
    assert entry["outputs"]["in_hospital_death"]["auroc"]["low"] > 0
    text = page.read_text(encoding="utf-8")
    assert Page(text).faults == []
    assert "the figures flatter it" in text
    for words in (str(tmp_path), str(line.good.artifact), str(line.weak.artifact)):
        assert words not in text


def test_a_rival_of_another_task_is_refused(line):
    scorer = load_artifact(line.good.artifact)
    other = replace(scorer.bundle, task=replace(scorer.bundle.task, outcome="readmission"))
    rival = Scorer(other, scorer.network, scorer.tokenizer)
    with pytest.raises(RefusedError, match=r"task\.outcome differ"):
        report_on_cohort(scorer, line.cohort, QUICK, rivals={"other": rival})


ELSEWHERE = {"source": "Elsewhere", "stays": 900, "licence": "none", "fingerprint": "sha256:first"}
HERE = {"source": "Our ward", "stays": 80, "licence": "ours", "fingerprint": "sha256:site", "trained_on": ELSEWHERE}
PARENT = {"name": "parent-model", "digest": "sha256:parent", "created": "2026"}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("recalibrated_from", ["Trained on", "Recalibrated on", "Recalibrated from"]),
        ("warm_started_from", ["Trained on", "Trained further on", "Started from"]),
    ],
)
def test_a_model_made_of_another_names_it_and_the_patients_of_both(facts, kind, names):
    text = report_html({**facts, "data": {**facts["data"], **HERE, kind: PARENT}})
    rows = dict(re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td></tr>', text))
    first, second, parent = (rows[name] for name in names)
    assert first == "Elsewhere; 900 stays; licence: none; fingerprint sha256:first"
    assert second == "Our ward; 80 stays; licence: ours; fingerprint sha256:site"
    assert parent == "parent-model (sha256:parent)"
    items = {entry["item"]: entry["statement"] for entry in tripod_items({**facts, "data": {**HERE, kind: PARENT}})}
    assert items["5a"].startswith("Developed on Elsewhere (none)")
    for item in ("12f", "24"):
        assert "from parent-model (sha256:parent), on patients of Our ward" in items[item]
        assert "No other updating" not in items[item]


def test_a_model_of_its_own_says_that_it_was_not_updated(facts, page):
    assert "Recalibrated from" not in page
    items = {entry["item"]: entry["statement"] for entry in tripod_items(facts)}
    assert items["12f"].startswith("No other updating. Calibration: ")


def test_the_smallest_group_is_marked_in_words_that_need_no_style_sheet(page):
    rows = re.sub(r"<style.*?</style>", "", page, flags=re.S)
    assert re.search(r'<th scope="row">[^<]+<span class="smallest">\(smallest\)</span></th>', rows)
