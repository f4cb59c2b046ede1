"""The commands on a corpus with labels: train, evaluate, score, promote, and the model that MLflow carries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name

from models.disclaimer import DISCLAIMER_EN
from models.errors import DataError
from pipelines.cli import main
from pipelines.text.corpus_files import write_corpus
from pipelines.text.document_gate import judge_classifier
from pipelines.text.metric_numbers import metric_numbers
from pipelines.text.pyfunc_rows import texts_and_ids
from tests.pipelines.text.test_documents_training import corpus

CONFIG = """
name = "made-reports"
threads = 1
[task]
kind = "classification"
[split]
train = 0.5
validation = 0.1
calibration = 0.15
test = 0.25
[tokenizer]
vocabulary_size = 400
min_groups = 2
[network]
embedding_size = 8
hidden_size = 8
[phrases]
min_groups = 2
[training]
rows = 16
truncation_length = 32
max_epochs = 2
accelerator = "cpu"
monitor = "last_epoch"
[evaluation]
draws = 50
[gate]
min_documents = 20
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a corpus, a configuration and a registry in which its model is version 1."""
    folder = tmp_path_factory.mktemp("documents")
    write_corpus(corpus(), folder / "corpus")
    (folder / "run.toml").write_text(CONFIG, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("SEQUELA_CACHE", str(folder / "cache"))
        arguments = ["train", str(folder / "corpus"), "--config", str(folder / "run.toml"), "--quiet"]
        assert main([*arguments, "--folder", str(folder / "work")]) == 0
        yield folder


def answered(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_registered_model_evaluates_with_intervals(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "figures.json"
    arguments = ["evaluate", "models:/made-reports@challenger", str(place / "corpus"), "--out", str(out), "--json"]
    assert main([*arguments, "--bootstrap", "30", "--against", "models:/made-reports/1"]) == 0
    printed = answered(capsys)
    entry = printed["metrics"]["macro_f1"]
    assert entry["low"] <= entry["value"] <= entry["high"]
    assert printed["rivals"]["models:/made-reports/1"]["difference"]["macro_f1"]["value"] == 0.0
    assert printed["disclaimer"] == DISCLAIMER_EN


def test_scores_are_risks_and_labels_and_no_text(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "risks.parquet"
    assert main(["score", "models:/made-reports/1", str(place / "corpus"), "--out", str(out), "--json"]) == 0
    printed, table = answered(capsys), pq.read_table(out)
    assert table.column_names == ["document_id", "label", "risk_heart", "risk_knee", "risk_lung"]
    assert printed["documents"] == table.num_rows == 160
    assert table.schema.metadata[b"disclaimer"].decode() == DISCLAIMER_EN


def test_what_mlflow_carries_classifies_texts(place: Path) -> None:
    import mlflow

    from pipelines.tracking import quiet

    with quiet():
        mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
        model = mlflow.pyfunc.load_model("models:/made-reports/1")
        found = model.predict(pd.DataFrame({"text": ["cough and wheeze", "valve murmur"]}))
    assert set(found["disclaimer"]) == {DISCLAIMER_EN}
    assert found.filter(like="risk_").sum(axis=1).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("absent", [None, float("nan")])
def test_a_missing_text_is_refused_and_not_read_as_a_word(absent: object) -> None:
    with pytest.raises(DataError, match="got 1 of 2 without one"):
        texts_and_ids(pd.DataFrame({"text": ["cough", absent]}))


def test_every_label_keeps_its_own_numbers_in_mlflow() -> None:
    labels = ("陽性", "陰性", "a/b", "a|b", "../x", "y" * 300, "T:E", 'q"', "陽性_low")
    entries = {f"f1_{label}": {"value": 3 * i + 1, "low": 3 * i, "high": 3 * i + 2} for i, label in enumerate(labels)}
    numbers = metric_numbers("holdout", {"metrics": entries})
    assert sorted(numbers.values()) == list(range(3 * len(labels)))
    assert "holdout/f1_陽性" in numbers
    for name in numbers:
        _validate_metric_name(name)
        assert len(name) <= MAX_ENTITY_KEY_LENGTH


def test_a_model_is_promoted_through_the_gate_on_its_own_hold_out(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["promote", "made-reports", "1", "--json"]) == 0
    checks = {check["name"]: check["passed"] for check in answered(capsys)["gate"]["checks"]}
    assert checks == {"artifact": True, "documents": True}


def test_a_model_is_compared_with_the_champion_on_the_same_documents(place: Path) -> None:
    from pipelines.registry import find_version
    from pipelines.settings import Settings
    from pipelines.tracking import connect

    settings = Settings.from_environment()
    version = find_version("models:/made-reports/1", connect(settings))
    verdict = judge_classifier(version, version, settings)
    names = [check.name for check in verdict.checks]
    assert names == ["artifact", "documents", "same_task", "macro_f1_difference_low"]
    assert verdict.passed


def test_a_training_starts_from_a_registered_model_and_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.settings import Settings
    from pipelines.tracking import connect

    write_corpus(corpus(120), place / "own")
    arguments = ["train", str(place / "own"), "--config", str(place / "run.toml"), "--quiet", "--json"]
    arguments += ["--folder", str(place / "own-work"), "--set", "name=own-reports", "--set", "training.max_epochs=1"]
    assert main([*arguments, "--warm-start", "models:/made-reports/1"]) == 0
    printed = answered(capsys)
    assert printed["model"] == "models:/own-reports/1"
    tags = connect(Settings.from_environment()).get_run(printed["run_id"]).data.tags
    assert tags["sequela.parent"] == "models:/made-reports/1"
    assert tags["sequela.parent_digest"].startswith("sha256:")


def test_a_training_on_the_parents_own_corpus_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", str(place / "corpus"), "--config", str(place / "run.toml"), "--quiet", "--json"]
    arguments += ["--folder", str(place / "again"), "--warm-start", "models:/made-reports/1"]
    assert main(arguments) == 1
    assert "no new evidence" in answered(capsys)["refused"]
