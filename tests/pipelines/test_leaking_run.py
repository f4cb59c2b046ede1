"""A training that leaks ends with status 1 and a reason and leaves no model; an honest one says what it proved."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models.artifact import load_artifact
from pipelines import combined, dataset, part_data
from pipelines.cli import main
from pipelines.cohort import write_cohort
from pipelines.leak_finding import LeakError
from pipelines.registry import version_at
from pipelines.split import Part
from pipelines.tracking import connect
from pipelines.train import train


def quick(line):
    return replace(line.config, training=replace(line.config.training, max_epochs=1))


def test_the_artifact_says_which_guards_it_passed_and_what_was_fitted_on_which_part(line):
    bundle = load_artifact(line.good.artifact).bundle
    names = {guard["name"] for guard in bundle.guards}
    assert names >= {"patients", "statistics", "features", "labels", "record", "calibration", "future"}
    assert all(guard["passed"] for guard in bundle.guards)
    assert bundle.causal
    assert (
        bundle.cohort["fitted_on"] | {"encoding": "train", "network": "train", "calibration": "calibration"}
        == (bundle.cohort["fitted_on"])
    )
    written = json.dumps([*bundle.guards, bundle.cohort])
    assert not any(name in written for name in (*line.cohort.patient_id, *line.cohort.stays.stay_id))


def test_a_bidirectional_model_is_saved_as_not_causal(line, tmp_path):
    config = quick(line)
    offline = replace(config, network=replace(config.network, bidirectional=True))
    bundle = train([line.cohort], offline, folder=tmp_path, progress=False).bundle
    assert not bundle.causal
    assert [guard["detail"][:13] for guard in bundle.guards if guard["name"] == "future"] == ["causal: false"]


def test_an_encoding_of_all_stays_ends_the_run_before_any_training(line, tmp_path, monkeypatch):
    fit = dataset.fit_features
    everyone = np.arange(len(line.cohort.stays))
    monkeypatch.setattr(dataset, "fit_features", lambda cohort, index, config: fit(cohort, everyone, config))
    with pytest.raises(LeakError, match="leak guard 'statistics'"):
        train([line.cohort], quick(line), folder=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_calibration_on_the_hold_out_is_caught_even_if_it_claims_otherwise(line, tmp_path, monkeypatch):
    """The calibration part's record, with the hold-out's stays behind it."""

    class Lying(part_data.Dataset):
        def saw(self, thing, part):
            fits = thing in ("calibration", "uncertainty")
            recorded = super().saw(thing, self.parts[Part.CALIBRATION] if fits else part)
            return self.parts[Part.TEST] if fits else recorded

    build, score = dataset.build_dataset, combined.MemberLogits.of.__func__

    def lying(*args, **options):
        data = build(*args, **options)
        return Lying(data.parts, data.encoding, data.tokenizer, data.scale, data.fitted_on, data.key)

    def of_the_hold_out(cls, ensemble, data):
        scored = score(cls, ensemble, data)
        return replace(scored, calibration=scored.test)

    monkeypatch.setattr("pipelines.train.build_dataset", lying)
    monkeypatch.setattr(combined.MemberLogits, "of", classmethod(of_the_hold_out))
    with pytest.raises(LeakError, match=r"leak guard '(calibration|uncertainty)'"):
        train([line.cohort], quick(line), folder=tmp_path, progress=False)
    assert not list(tmp_path.rglob("bundle.json"))


def test_the_command_registers_nothing_and_ends_with_status_1(line, tmp_path, monkeypatch, capsys):
    died = dataset.task_outcomes(line.cohort, line.config.task).value
    stays = line.cohort.stays
    static = stays.static.copy()
    static[:, list(stays.static_names).index("age")] = 40.0 + 2.0 * died
    leaky = replace(line.cohort, stays=replace(stays, static=static))
    write_cohort(leaky, tmp_path / "cohort")
    (tmp_path / "run.toml").write_text('name = "leaky"\n[task]\noutcome = "in_hospital_death"\n', encoding="utf-8")
    for name, value in replace(line.settings, cache=tmp_path / "cache").environment().items():
        monkeypatch.setenv(name, value)
    command = [
        "train",
        str(tmp_path / "cohort"),
        "--config",
        str(tmp_path / "run.toml"),
        "--folder",
        str(tmp_path / "run"),
    ]
    assert main([*command, "--json", "--quiet"]) == 1
    printed = capsys.readouterr()
    assert "leak guard 'labels' must find no column that is an outcome" in printed.err
    assert "leak guard 'labels'" in json.loads(printed.out.splitlines()[-1])["refused"]
    assert version_at(connect(line.settings), "leaky", alias="challenger") is None
    assert not list((tmp_path / "run").rglob("bundle.json"))
    assert not list((tmp_path / "run").glob("encoded-*"))
