"""An artifact is whole, verified and free of pickle, or it is refused."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from models.artifact import load_artifact, read_bundle, save_artifact
from models.artifact_folder import artifact_digest, verify_digests
from models.cells import Cell
from models.channel_encoding import Feature
from models.encoding import EncodingConfig
from models.errors import ArtifactError
from models.network import NetworkConfig
from models.task import LabelScope, TargetKind, TaskSpec
from tests.support import SmallModel, save_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> SmallModel:
    return save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def copy(model, tmp_path) -> Path:
    return Path(shutil.copytree(model.folder, tmp_path / "copy"))


@pytest.mark.parametrize("cell", list(Cell))
def test_a_saved_model_loads_and_scores_bit_equal(cell, tmp_path):
    saved = save_small_model(tmp_path / "model", cell=cell, encoding=EncodingConfig(features=tuple(Feature)))
    first, second = (saved.scorer().score(saved.cohort.stays) for _ in range(2))
    assert np.array_equal(first.risk, second.risk)
    assert np.all((first.risk > 0) & (first.risk < 1))


def test_an_artifact_holds_json_text_and_safetensors_alone(model):
    suffixes = {path.suffix for path in model.folder.iterdir()}
    assert suffixes == {".json", ".md", ".safetensors"}
    for path in model.folder.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK")), "a pickle or a zip file"


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory) -> SmallModel:
    further = [NetworkConfig(cell=Cell.LSTM, hidden_size=5)]
    return save_small_model(tmp_path_factory.mktemp("models") / "ensemble", further=further, trees=True)


@pytest.mark.parametrize(
    "task",
    [
        TaskSpec("in_hospital_death", scope=LabelScope.STEP, horizons_h=(6.0, 12.0)),
        TaskSpec("discharge", kind=TargetKind.MULTICLASS, classes=("home", "ward", "died")),
        TaskSpec("length_of_stay_d", kind=TargetKind.REGRESSION),
    ],
)
def test_an_ensemble_of_any_task_loads_and_scores_as_it_was_saved(task, tmp_path):
    further = [NetworkConfig(cell=Cell.LSTM, hidden_size=5)]
    saved = save_small_model(tmp_path / "model", task=task, further=further, trees=True)
    scorer = saved.scorer()
    assert [member.kind for member in scorer.bundle.members] == ["network", "network", "trees"]
    assert np.array_equal(scorer.score(saved.cohort.stays).risk, saved.scorer().score(saved.cohort.stays).risk)
    texts = [path.read_text() for path in sorted(saved.folder.glob("trees-*.txt"))]
    assert len(texts) == (2 if task.horizons_h else 1)


def test_an_ensembles_files_are_json_text_and_safetensors_too(ensemble):
    assert {path.suffix for path in ensemble.folder.iterdir()} == {".json", ".md", ".safetensors", ".txt"}
    weights = safetensors.torch.load_file(ensemble.folder / "weights.safetensors")
    assert {name.split(".")[0] for name in weights} == {"0", "1"}


def test_altered_trees_are_refused_under_any_manifest(ensemble, tmp_path):
    copy = Path(shutil.copytree(ensemble.folder, tmp_path / "copy"))
    path = copy / "trees-0.txt"
    text = path.read_text()
    begin = text.index("leaf_value=") + len("leaf_value=")
    path.write_text(text[:begin] + text[begin:].replace("0.", "9.", 1))
    with pytest.raises(ArtifactError, match=r"trees-0\.txt must have the manifest's sha256"):
        load_artifact(copy)
    reseal(copy)
    with pytest.raises(ArtifactError, match="golden scores must hold"):
        load_artifact(copy)
    path.write_text(text[: len(text) // 2])
    reseal(copy)
    with pytest.raises(ArtifactError, match="whole numeric trees"):
        load_artifact(copy)


def test_trees_that_the_bundle_names_and_nobody_stored_are_refused(ensemble, tmp_path):
    copy = Path(shutil.copytree(ensemble.folder, tmp_path / "copy"))
    (copy / "trees-0.txt").unlink()
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["trees-0.txt"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"must hold trees-0\.txt"):
        load_artifact(copy)


def test_the_first_releases_artifact_is_refused_with_the_remedy():
    stored = Path(__file__).parent / "schema_1"
    for read in (load_artifact, verify_digests, read_bundle):
        with pytest.raises(ArtifactError, match=r"schema_version must be 2, got 1; .*train again"):
            read(stored)


def test_a_model_without_trees_needs_no_lightgbm(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert load_artifact(model.folder).digest == model.digest


def test_an_artifact_holds_no_identifier_and_no_note_of_its_cohort(model):
    text = b"".join(path.read_bytes() for path in model.folder.iterdir())
    assert not any(stay.encode() in text for stay in model.cohort.stays.stay_id)
    assert not any(patient.encode() in text for patient in model.cohort.patient_id)
    assert not any(note.encode() in text for note in model.cohort.stays.note_text)


def test_the_digest_follows_every_byte(model, copy):
    assert artifact_digest(copy) == model.digest
    card = copy / "card.md"
    card.write_text("# another\n")
    with pytest.raises(ArtifactError, match=r"card.md must have the manifest's sha256"):
        load_artifact(copy)


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "golden.json", "tokenizer.json"])
def test_a_flipped_byte_is_refused_by_the_name_of_its_file(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        load_artifact(copy)


def test_a_missing_and_a_surplus_file_are_refused(copy):
    (copy / "surplus.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"difference in surplus\.json"):
        verify_digests(copy)
    (copy / "surplus.json").unlink()
    (copy / "golden.json").unlink()
    with pytest.raises(ArtifactError, match=r"difference in golden\.json"):
        verify_digests(copy)


def test_another_digest_than_the_registrys_is_refused(copy):
    with pytest.raises(ArtifactError, match="digest must be sha256:0000"):
        load_artifact(copy, expected_digest="sha256:0000")


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"must hold manifest\.json"):
        load_artifact(tmp_path)


def reseal(folder: Path) -> None:
    """Writes a manifest that fits the altered files, as somebody with write access could."""
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_altered_weights_fail_the_golden_scores_even_under_a_fitting_manifest(copy):
    weights = safetensors.torch.load_file(copy / "weights.safetensors")
    weights["0.head.bias"] = weights["0.head.bias"] + 0.01
    safetensors.torch.save_file(weights, copy / "weights.safetensors")
    reseal(copy)
    with pytest.raises(ArtifactError, match="golden scores must hold"):
        load_artifact(copy)


def test_weights_that_are_not_finite_are_refused(copy):
    weights = safetensors.torch.load_file(copy / "weights.safetensors")
    weights["0.head.bias"] = weights["0.head.bias"] * float("nan")
    safetensors.torch.save_file(weights, copy / "weights.safetensors")
    reseal(copy)
    with pytest.raises(ArtifactError, match="finite"):
        load_artifact(copy)


def test_another_schema_is_refused_with_the_remedy(copy):
    bundle = json.loads((copy / "bundle.json").read_text())
    bundle["schema_version"] = 999
    (copy / "bundle.json").write_text(json.dumps(bundle))
    reseal(copy)
    with pytest.raises(ArtifactError, match=r"schema_version must be 2, got 999; .*train again"):
        load_artifact(copy)


def test_an_unknown_key_in_the_bundle_is_refused(copy):
    bundle = json.loads((copy / "bundle.json").read_text())
    bundle["surprise"] = 1
    (copy / "bundle.json").write_text(json.dumps(bundle))
    reseal(copy)
    with pytest.raises(ArtifactError, match="surprise"):
        load_artifact(copy)


def test_an_existing_folder_is_not_overwritten(model):
    scorer = model.scorer()
    with pytest.raises(ArtifactError, match="must not exist yet"):
        save_artifact(model.folder, scorer.bundle, scorer.network, scorer.tokenizer)


def test_a_note_reading_model_without_its_tokenizer_is_refused(model, tmp_path):
    scorer = model.scorer()
    with pytest.raises(ArtifactError, match="tokenizer must be given"):
        save_artifact(tmp_path / "new", scorer.bundle, scorer.network, None)
    assert not (tmp_path / "new").exists()
