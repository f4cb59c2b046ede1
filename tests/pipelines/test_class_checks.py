"""Outcomes of one class alone: refused by the part that holds them, before anything is trained."""

from dataclasses import replace

import numpy as np
import pytest

import pipelines.train
from models.calibration import CalibrationMethod
from models.errors import DataError
from models.task import TargetKind, TaskSpec
from pipelines.calibrate import kept_apart
from pipelines.class_checks import check_classes
from pipelines.dataset import build_dataset
from pipelines.ensemble_config import EnsembleConfig
from pipelines.outcomes import Outcomes
from pipelines.split import Part
from pipelines.training_config import Monitor
from tests.pipelines.test_train import silent


@pytest.fixture(scope="module")
def data(line, tmp_path_factory):
    return build_dataset(line.cohort, line.config, tmp_path_factory.mktemp("encoded"), say=silent)


def relabelled(data, part, value, stays=None):
    """The dataset with the labels of a part's stays (all of them by default) set to a value."""
    given = data.parts[part]
    chosen = np.ones(len(given.index), dtype=bool) if stays is None else stays
    label = given.label.copy()
    label[np.repeat(chosen, given.encoded.lengths)] = value
    return replace(data, parts={**data.parts, part: replace(given, label=label)})


def test_labels_of_both_classes_pass(data, line):
    check_classes(data, line.config)


@pytest.mark.parametrize(
    ("part", "name"),
    [(Part.TRAIN, "training"), (Part.VALIDATION, "validation"), (Part.CALIBRATION, "calibration")],
)
@pytest.mark.parametrize(("value", "found"), [(0.0, "none with it"), (1.0, "none without it"), (np.nan, "no label")])
def test_a_part_of_one_class_is_refused(data, line, part, name, value, found):
    expected = f"{name} part must hold stays with and without 'in_hospital_death', got {found}; bring more patients"
    with pytest.raises(DataError, match=expected):
        check_classes(relabelled(data, part, value), line.config)


def test_events_of_patients_who_are_kept_apart_alone_calibrate_nothing(data, line):
    patients = data.parts[Part.CALIBRATION].patient_id
    calibrates = ~kept_apart(patients, line.config.calibration, line.config.split.key)
    with pytest.raises(DataError, match="calibration part must hold"):
        check_classes(relabelled(data, Part.CALIBRATION, 0.0, calibrates), line.config)


def test_parts_that_decide_nothing_may_hold_one_class(data, line):
    config = line.config
    last = replace(config, training=replace(config.training, monitor=Monitor.LAST))
    check_classes(relabelled(data, Part.VALIDATION, 0.0), last)
    uncalibrated = replace(config, calibration=replace(config.calibration, method=CalibrationMethod.NONE))
    check_classes(relabelled(data, Part.CALIBRATION, 0.0), uncalibrated)
    check_classes(relabelled(data, Part.TEST, 0.0), config)


def test_a_fold_that_holds_every_event_is_refused(data, line):
    train = data.parts[Part.TRAIN]
    folds = np.arange(len(train.index)) % 2
    ensemble = EnsembleConfig(members=2, folds=2)
    last = replace(line.config.training, monitor=Monitor.LAST)
    config = replace(line.config, ensemble=ensemble, training=last)
    check_classes(replace(data, folds=folds), config)
    with pytest.raises(DataError, match=r"training \(without fold 1\) part must hold"):
        check_classes(replace(relabelled(data, Part.TRAIN, 0.0, folds == 0), folds=folds), config)


def test_a_number_needs_one_value_alone(data, line):
    config = replace(line.config, task=TaskSpec("days", kind=TargetKind.REGRESSION))
    check_classes(relabelled(data, Part.TRAIN, 3.0), config)
    with pytest.raises(DataError, match="stays with a value of 'days', got no label"):
        check_classes(relabelled(data, Part.TRAIN, np.nan), config)


def test_several_classes_must_be_two_at_least(data, line):
    config = replace(line.config, task=TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("a", "b", "c")))
    with pytest.raises(DataError, match="stays of several classes of 'unit', got one class alone"):
        check_classes(relabelled(data, Part.TRAIN, 2.0), config)


def test_the_run_ends_before_its_training(line, tmp_path, monkeypatch):
    outcomes = line.cohort.outcomes.copy()
    outcomes.loc[outcomes["outcome"] == "in_hospital_death", "value"] = 0.0
    cohort = replace(line.cohort, outcome_rows=Outcomes.from_frame(outcomes))
    monkeypatch.setattr(pipelines.train, "fit_members", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(DataError, match="training part must hold"):
        pipelines.train.train([cohort], line.config, folder=tmp_path, progress=False)
