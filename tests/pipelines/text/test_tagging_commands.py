"""The commands on a corpus with spans: train, evaluate, score, and the model that MLflow carries."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from models.disclaimer import DISCLAIMER_EN
from pipelines.cli import main
from pipelines.text.corpus_files import write_corpus
from tests.pipelines.text.tagging_corpus import made_corpus

CONFIG = """
name = "made-tagger"
threads = 1
held_out = ["devel"]
[task]
kind = "tagging"
labels = ["drug", "finding"]
[split]
train = 0.6
validation = 0.15
calibration = 0.15
test = 0.1
[vocabulary]
min_groups = 2
[network]
word_size = 8
character_size = 12
filters = 12
hidden_size = 16
[training]
batch_windows = 8
max_epochs = 8
learning_rate = 1e-2
average_decay = 0.8
[evaluation]
draws = 50
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus, a configuration and a registry in which its tagger is version 1."""
    folder = tmp_path_factory.mktemp("tagging")
    write_corpus(made_corpus(held_out=True), folder / "corpus")
    (folder / "run.toml").write_text(CONFIG, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("SEQUELA_CACHE", str(folder / "cache"))
        arguments = ["train", str(folder / "corpus"), "--config", str(folder / "run.toml")]
        assert main([*arguments, "--folder", str(folder / "work")]) == 0
        yield folder


def answered(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_registered_tagger_evaluates_as_it_was_trained(place, capsys):
    out = place / "figures.json"
    arguments = ["evaluate", "models:/made-tagger@challenger", str(place / "corpus"), "--out", str(out), "--json"]
    assert main([*arguments, "--bootstrap", "30"]) == 0
    printed = answered(capsys)
    assert printed["metrics"]["f1"]["low"] <= printed["metrics"]["f1"]["value"] <= printed["metrics"]["f1"]["high"]
    assert printed["disclaimer"] == DISCLAIMER_EN
    assert json.loads(out.read_text())["metrics"] == printed["metrics"]


def test_scores_are_places_and_labels_and_no_text(place, capsys):
    out = place / "spans.parquet"
    arguments = ["score", "models:/made-tagger/1", str(place / "corpus"), "--out", str(out), "--json"]
    assert main(arguments) == 0
    printed, table = answered(capsys), pq.read_table(out)
    assert table.column_names == ["document_id", "start", "end", "label", "probability"]
    assert printed["spans"] == table.num_rows > 0
    assert table.schema.metadata[b"disclaimer"].decode() == DISCLAIMER_EN


def test_what_mlflow_carries_tags_texts(place):
    import mlflow

    from pipelines.tracking import quiet

    with quiet():
        mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
        model = mlflow.pyfunc.load_model("models:/made-tagger/1")
        corpus = made_corpus(8)
        rows = pd.DataFrame({"text": corpus.documents.text, "document_id": corpus.documents.document_id})
        found = model.predict(rows)
    assert list(found.columns) == ["document_id", "start", "end", "label", "probability", "disclaimer"]
    assert set(found["disclaimer"]) == {DISCLAIMER_EN}
    assert set(found["document_id"]) <= set(corpus.documents.document_id)


def test_no_text_reaches_mlflow(place):
    words = {word for text in made_corpus().documents.text for word in text.split() if word.endswith("amine")}
    known = [path for path in place.joinpath("mlruns").rglob("*") if path.is_file() and path.suffix == ".json"]
    assert known
    # The vocabulary alone may hold words, and only those of several groups.
    texts = [path.read_text(encoding="utf-8") for path in known if path.name != "vocabulary.json"]
    assert not any(word in text for word in words for text in texts)


def test_a_tagger_is_promoted_through_the_gate_on_its_own_hold_out(place, capsys):
    assert main(["promote", "made-tagger", "1", "--json"]) == 0
    checks = {check["name"]: check["passed"] for check in answered(capsys)["gate"]["checks"]}
    assert checks == {"artifact": True, "spans": True}


def test_a_tagger_is_compared_with_the_champion_on_the_same_documents(place):
    from pipelines.registry import find_version
    from pipelines.settings import Settings
    from pipelines.text.tagging_gate import judge_tagging
    from pipelines.tracking import connect

    settings = Settings.from_environment()
    version = find_version("models:/made-tagger/1", connect(settings))
    verdict = judge_tagging(version, version, settings)
    found = {check.name: check for check in verdict.checks}
    assert verdict.passed
    assert found["f1_difference_low"].value == 0.0
    assert found["same_task"].passed


def test_a_gate_without_the_same_documents_is_refused(place, tmp_path, capsys):
    write_corpus(made_corpus(40, held_out=True), tmp_path / "other")
    assert main(["promote", "made-tagger", "1", "--cohort", str(tmp_path / "other"), "--json"]) == 1
    assert "fingerprint" in answered(capsys)["refused"]


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("train", ["--warm-start", "models:/made-tagger/1"]),
        ("evaluate", ["--html", "page.html"]),
        ("score", ["--uncertainty"]),
    ],
)
def test_what_does_not_go_with_tagging_is_wrong_usage(place, command, extra, capsys):
    given = {
        "train": [str(place / "corpus"), "--config", str(place / "run.toml")],
        "evaluate": ["models:/made-tagger/1", str(place / "corpus"), "--out", str(place / "no.json")],
        "score": ["models:/made-tagger/1", str(place / "corpus"), "--out", str(place / "no.parquet")],
    }[command]
    assert main([command, *given, *extra, "--json"]) == 2
    assert "left out for tagging" in answered(capsys)["refused"]
