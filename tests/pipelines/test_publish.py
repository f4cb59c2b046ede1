"""A run in MLflow holds everything that made the model, and its version holds no pickle."""

import json
from dataclasses import replace

import pytest

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.errors import RefusedError
from models.network import NetworkConfig
from models.record import to_plain
from pipelines.ensemble_config import EnsembleConfig
from pipelines.fit import Interrupted
from pipelines.lease import LeaseLostError
from pipelines.publish import Publication, requirements
from pipelines.registry import fetch, find_version
from pipelines.settings import local_settings
from pipelines.tracking import TrackingError, connect, mlflow, quiet
from tests.support import save_small_model


@pytest.fixture(scope="module")
def published(line):
    """One run of the good model, its client and its version."""
    config = replace(line.config, name="published")
    with Publication(config, line.settings, cohorts=[line.cohort_folder]) as publication:
        for row in line.good.history[:1]:
            publication.log_epoch(row)
        version = publication.register(line.good)
    client = connect(line.settings)
    return client, client.get_run(publication.run_id), find_version(f"models:/published/{version}", client)


def _read(run, name):
    with quiet():
        return mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{name}")


def test_the_resolved_configuration_is_logged_whole_and_as_parameters(line, published):
    _, run, _ = published
    assert json.loads(_read(run, "config.json")) == to_plain(replace(line.config, name="published"))
    assert run.data.params["training.learning_rate"] == "0.01"
    assert run.data.params["network.cell"] == "gru"


def test_every_epoch_is_a_point_of_the_curves_exactly_once(line, published):
    client, run, _ = published
    points = client.get_metric_history(run.info.run_id, "validation_loss")
    assert [(p.step, p.value) for p in points] == [(int(r["epoch"]), r["validation_loss"]) for r in line.good.history]


def test_figures_stand_beside_their_intervals(line, published):
    _, run, _ = published
    auroc = line.good.metrics["metrics"]["auroc"]
    assert run.data.metrics["holdout/auroc"] == pytest.approx(auroc["value"])
    assert run.data.metrics["holdout/auroc_low"] == pytest.approx(auroc["low"])
    assert run.data.metrics["holdout/events"] == line.good.metrics["events"]


def test_plots_card_versions_and_fingerprint_are_in_the_run(line, published):
    client, run, _ = published
    assert {f.path for f in client.list_artifacts(run.info.run_id, "plots")} == {
        f"plots/{plot.name}" for plot in line.good.plots
    }
    assert line.good.plots
    assert DISCLAIMER_JA in _read(run, "model_card.md")
    auroc = line.good.metrics["metrics"]["auroc"]
    assert f"| auroc | {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}] |" in _read(run, "model_card.md")
    assert json.loads(_read(run, "model_card.json"))["disclaimer"] == DISCLAIMER_EN
    assert json.loads(_read(run, "versions.json"))["torch"]
    assert run.data.tags["sequela.fingerprint"] == line.cohort.fingerprint
    assert run.info.status == "FINISHED"


def test_the_hold_out_is_recorded_without_any_identifier(line, published):
    _, run, _ = published
    text = _read(run, "holdout.json")
    holdout = json.loads(text)
    assert holdout["fingerprint"] == line.cohort.fingerprint
    assert holdout["cohorts"] == [str(line.cohort_folder.resolve())]
    assert not any(f'"{patient}"' in text for patient in line.cohort.patient_id)


def test_the_version_is_challenger_with_digest_and_words(line, published):
    client, run, version = published
    assert version.digest == line.good.digest
    assert version.run_id == run.info.run_id
    assert version.tags["sequela.fingerprint"] == line.cohort.fingerprint
    assert find_version("models:/published@challenger", client) == version
    description = client.get_model_version("published", str(version.version)).description
    assert DISCLAIMER_EN in description
    assert DISCLAIMER_JA in description


def test_the_model_folder_holds_no_pickle_and_a_signature_with_an_example(line, published, tmp_path):
    _, _, version = published
    with quiet():
        folder = mlflow.artifacts.download_artifacts(version.address, dst_path=str(tmp_path))
        model = mlflow.models.get_model_info(version.address)
    names = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert not [n for n in names if n.endswith((".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"))]
    assert {"pyfunc_model.py", "weights.safetensors", "bundle.json", "input_example.json"} <= set(names)
    # Protocols 2 and up of a pickle begin with 0x80 and their number.
    others = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".safetensors"]
    assert not [p for p in others if p.read_bytes()[:1] == b"\x80"]
    assert folder
    assert model.signature.inputs.input_names()[0] == "observations"
    assert "risk" in model.signature.outputs.input_names()
    assert model.metadata["sequela.digest"] == version.digest


def test_the_carried_artifact_is_the_one_that_was_trained(line, published):
    _, _, version = published
    folder = fetch(version, line.settings)
    assert (folder / "manifest.json").read_bytes() == (line.good.artifact / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RefusedError("data must be good, got bad; mend it"), "FAILED"),
        (LeaseLostError("lease must be held, got none; start again"), "KILLED"),
        (Interrupted("training must reach its last epoch, got a request to stop; run again"), "KILLED"),
        (KeyError("a value of the file"), "FAILED"),
    ],
)
def test_a_run_that_fails_says_why_without_what_a_foreign_error_holds(line, error, status):
    publication = Publication(line.config, line.settings)
    with pytest.raises(type(error)), publication:
        raise error
    run = connect(line.settings).get_run(publication.run_id)
    assert run.info.status == status
    assert run.data.tags["sequela.reason"] == (str(error) if not isinstance(error, KeyError) else "KeyError")


def test_a_run_that_is_continued_holds_every_epoch_once_and_no_reason_of_an_earlier_end(line):
    first = Publication(line.config, line.settings)

    def lose_the_lease(row):
        first.log_epoch(row)
        raise LeaseLostError("lease must be held, got none; start again")

    with pytest.raises(LeaseLostError), first:
        lose_the_lease({"epoch": 0, "validation_loss": 0.6})
    with Publication(line.config, line.settings, run_id=first.run_id) as second:
        for epoch, loss in enumerate((0.6, 0.5)):
            second.log_epoch({"epoch": epoch, "validation_loss": loss})
    client = connect(line.settings)
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert "sequela.reason" not in run.data.tags
    points = client.get_metric_history(first.run_id, "validation_loss")
    assert [(p.step, p.value) for p in points] == [(0, 0.6), (1, 0.5)]


def test_epochs_of_further_networks_stand_under_their_number_once(line):
    config = replace(line.config, ensemble=EnsembleConfig(members=2))
    rows = [{"member": k, "epoch": e, "validation_loss": 0.5 + k + e} for k in range(2) for e in range(2)]
    first = Publication(config, line.settings)
    with first:
        for row in rows[:3]:
            first.log_epoch(row)
    with Publication(config, line.settings, run_id=first.run_id) as second:
        for row in rows:
            second.log_epoch(row)
    client = connect(line.settings)
    for name, losses in (("validation_loss", [0.5, 1.5]), ("member_1/validation_loss", [1.5, 2.5])):
        points = client.get_metric_history(first.run_id, name)
        assert [(p.step, p.value) for p in points] == list(enumerate(losses))
    assert not {name for name in client.get_run(first.run_id).data.metrics if name.endswith(("member", "epoch"))}


def test_the_pyfunc_of_an_ensemble_gives_its_spread_and_names_what_its_trees_need(tmp_path):
    from mlflow.pyfunc.model import PythonModelContext

    from pipelines.pyfunc_model import SequelaModel
    from pipelines.pyfunc_signature import input_example, signature_of

    model = save_small_model(tmp_path / "bundle", further=[NetworkConfig(hidden_size=3)], trees=True)
    bundle = model.scorer().bundle
    names = signature_of(bundle).outputs.input_names()
    assert names == ["stay_id", "time_h", "risk", "spread", "left_out", "disclaimer"]
    python_model = SequelaModel()
    python_model.load_context(PythonModelContext({"bundle": str(model.folder)}, {}))
    answer = python_model.predict(None, input_example(bundle))
    assert list(answer.columns) == names
    assert (answer["spread"] > 0).all()
    assert [r.split("==")[0] for r in requirements(bundle)][-1] == "lightgbm"
    assert not [r for r in requirements(save_small_model(tmp_path / "one").scorer().bundle) if "lightgbm" in r]


def test_an_mlflow_that_does_not_answer_is_named(line, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = replace(local_settings(tmp_path), tracking_uri="http://127.0.0.1:9", registry_uri="http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI") as error, Publication(line.config, settings):
        pass
    assert error.value.exit_status == 69
