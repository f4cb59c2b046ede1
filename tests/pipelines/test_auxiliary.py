"""Heads beside the task's own: their targets are the stay's own future, and without weight they change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.channel_encoding import Feature
from models.encoded import Encoded
from models.encoding import Encoding, EncodingConfig
from models.errors import ConfigError, DataError
from models.forward import score_logits
from models.grid import GridKind
from models.network import NetworkConfig, RecurrentNetwork
from models.task import LabelScope, TargetKind
from pipelines.auxiliary import AuxiliaryTargets, ValueReader, auxiliary_targets
from pipelines.auxiliary_config import AuxiliaryConfig, AuxiliaryOutcome
from pipelines.auxiliary_heads import AuxiliaryHeads, head_inputs
from pipelines.fit import FitResult, Interrupted, fit_network
from pipelines.labels import StayOutcomes, StepTargets
from pipelines.tapes import Tapes
from pipelines.training_config import Optimizer
from tests.pipelines.test_resume import StopsAt, assert_same
from tests.support import small_cohort
from tests.tape_data import STAY_TASK, quick_training, stay_targets

COHORT = small_cohort(stays=30)
BOTH = AuxiliaryConfig(0.3, (AuxiliaryOutcome("stay_h", weight=0.2),))
NETWORK = NetworkConfig(hidden_size=8, dropout=0.0, output_dropout=0.2)


def encoding_of(grid: GridKind = GridKind.FIXED, features: tuple[Feature, ...] = tuple(Feature)) -> Encoding:
    return Encoding.fit(COHORT.stays, EncodingConfig(grid=grid, width_h=2.0, features=features), statics=COHORT.statics)


ENCODING = encoding_of()
ENCODED = ENCODING.encode(COHORT.stays)
OUTCOMES = {"stay_h": StayOutcomes(COHORT.stays.end_min / 60.0, np.full(len(COHORT.stays), np.nan))}


def targets_of(config: AuxiliaryConfig, folder: Path, **changes: Any) -> AuxiliaryTargets | None:
    given: dict[str, Any] = {"encoded": ENCODED, "encoding": ENCODING, "outcomes": OUTCOMES, "replication": 0.5}
    folder.mkdir(exist_ok=True, parents=True)
    given |= changes
    return auxiliary_targets(
        config, given["encoded"], given["encoding"], given["outcomes"], replication=given["replication"], folder=folder
    )


def fit(folder: Path, config: AuxiliaryConfig, *, resume: bool = False, **changes: Any) -> FitResult:
    part = (ENCODED, stay_targets(ENCODED))
    return fit_network(
        train=part,
        validation=part,
        network=NETWORK,
        task=STAY_TASK,
        training=quick_training(auxiliary=config, **changes),
        seed=2,
        folder=folder,
        resume=resume,
        auxiliary=targets_of(config, folder / "targets"),
    )


def reference(encoded: Encoded, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
    """What each step's next step observes, looked up by the features' names, stay by stay."""
    names = encoding.feature_names
    value = np.zeros((len(encoded.time_min), len(encoding.channels.names)), dtype=np.float32)
    weight = np.zeros_like(value)
    for first, last in zip(encoded.step_offsets[:-1], encoded.step_offsets[1:], strict=True):
        for step in range(first, last - 1):
            for i, channel in enumerate(encoding.channels.names):
                if encoded.features[step + 1, names.index(f"{channel}.mask")]:
                    weight[step, i] = 1.0
                    value[step, i] = encoded.features[step + 1, names.index(f"{channel}.value")]
    return value, weight


@pytest.mark.parametrize("grid", list(GridKind))
@pytest.mark.parametrize("features", [tuple(Feature), (Feature.MASK, Feature.VALUE)])
def test_next_values_are_those_of_the_same_stays_next_step(
    tmp_path: Path, grid: GridKind, features: tuple[Feature, ...]
) -> None:
    encoding = encoding_of(grid, features)
    encoded = encoding.encode(COHORT.stays)
    found = targets_of(AuxiliaryConfig(1.0), tmp_path, encoded=encoded, encoding=encoding)
    assert found is not None
    value, weight = reference(encoded, encoding)
    assert weight.any()
    np.testing.assert_array_equal(found.targets.value, value)
    np.testing.assert_array_equal(found.targets.weight, weight)
    assert not found.targets.weight[encoded.step_offsets[1:] - 1].any()


def test_next_values_of_one_stay_do_not_depend_on_the_stay_after_it(tmp_path: Path) -> None:
    changed = replace(ENCODED, features=ENCODED.features.copy())
    changed.features[ENCODED.step_offsets[1] : ENCODED.step_offsets[2]] = 3.0
    found = [targets_of(AuxiliaryConfig(1.0), tmp_path / str(i), encoded=e) for i, e in enumerate((ENCODED, changed))]
    first = slice(0, int(ENCODED.step_offsets[1]))
    for name in ("value", "weight"):
        whole, other = (getattr(f.targets, name) for f in found if f is not None)
        np.testing.assert_array_equal(whole[first], other[first])
        assert not np.array_equal(whole, other)


def test_blocks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = targets_of(BOTH, tmp_path / "whole")
    monkeypatch.setattr("pipelines.auxiliary._STEPS_AT_ONCE", 7)
    parts = targets_of(BOTH, tmp_path / "parts")
    assert whole is not None
    assert parts is not None
    np.testing.assert_array_equal(whole.targets.value, parts.targets.value)
    np.testing.assert_array_equal(whole.targets.weight, parts.targets.weight)
    first, count = ENCODED.step_offsets[:-1], ENCODED.lengths
    each = parts.on_units(first, count).amount
    weight = np.add.reduceat(np.asarray(whole.targets.weight, dtype=np.float64), first)
    np.testing.assert_allclose(each, np.stack([weight[:, :-1].sum(1), weight[:, -1]], axis=1), atol=1e-9)


def test_an_outcome_is_standardised_and_weighted_as_the_tasks_own_label_is(tmp_path: Path) -> None:
    found = targets_of(AuxiliaryConfig(outcomes=BOTH.outcomes), tmp_path, replication=0.0)
    assert found is not None
    last = ENCODED.step_offsets[1:] - 1
    value, weight = found.targets.value[:, 0], found.targets.weight[:, 0]
    assert weight.sum() == len(last) == weight[last].sum()
    hours = COHORT.stays.end_min / 60.0
    np.testing.assert_allclose(value[last], (hours - hours.mean()) / hours.std(), rtol=1e-5)


def test_an_outcome_a_step_reads_its_time(tmp_path: Path) -> None:
    half = (COHORT.stays.end_min // 2).astype(np.float64)
    outcomes = {"sepsis": StayOutcomes(np.ones(len(COHORT.stays)), half)}
    wanted = AuxiliaryOutcome("sepsis", TargetKind.BINARY, LabelScope.STEP)
    found = targets_of(AuxiliaryConfig(outcomes=(wanted,)), tmp_path, outcomes=outcomes)
    assert found is not None
    before = ENCODED.time_min < np.repeat(half, ENCODED.lengths)
    np.testing.assert_array_equal(found.targets.weight[:, 0], before)


def test_weights_of_zero_change_nothing(tmp_path: Path) -> None:
    none = AuxiliaryConfig(0.0, (AuxiliaryOutcome("stay_h", weight=0.0),))
    assert targets_of(none, tmp_path) is None
    runs = [fit(tmp_path / str(i), config) for i, config in enumerate((AuxiliaryConfig(), none))]
    assert_same(*runs)


def test_heads_shape_the_network_and_are_not_part_of_it(tmp_path: Path) -> None:
    plain, taught = (fit(tmp_path / str(i), config) for i, config in enumerate((AuxiliaryConfig(), BOTH)))
    assert plain.network.state_dict().keys() == taught.network.state_dict().keys()
    weights = [run.network.state_dict()["stack.layers.0.weight_hh_l0"] for run in (plain, taught)]
    assert not torch.equal(*weights)


def test_a_head_learns_what_it_is_taught(tmp_path: Path) -> None:
    """The next values can be told from the hidden states of a network that was taught them, by a line."""
    targets = stay_targets(ENCODED)
    unsupervised = StepTargets(targets.value, targets.weight * 1e-6)
    result = fit_network(
        train=(ENCODED, unsupervised),
        validation=(ENCODED, targets),
        network=NETWORK,
        task=STAY_TASK,
        training=quick_training(auxiliary=AuxiliaryConfig(5.0), max_epochs=20, learning_rate=2e-2, weight_decay=0.0),
        seed=2,
        folder=tmp_path,
        auxiliary=targets_of(AuxiliaryConfig(5.0), tmp_path / "targets"),
    )
    hidden, found = _hidden(result.network), targets_of(AuxiliaryConfig(1.0), tmp_path / "again")
    untaught = _hidden(RecurrentNetwork(NETWORK, width=ENCODED.width, outputs=1).eval())
    assert found is not None
    taught_error, untaught_error = (_error_of_best_line(h, found.targets) for h in (hidden, untaught))
    assert taught_error < 0.85 * untaught_error


def _hidden(network: RecurrentNetwork) -> np.ndarray:
    with head_inputs(network) as read:
        score_logits(network, ENCODED, rows=1)
    order = np.argsort(-ENCODED.lengths, kind="stable")
    hidden = np.zeros((len(ENCODED.time_min), NETWORK.hidden_size))
    at = iter(read)
    for stay in order:
        begin, end = ENCODED.step_offsets[stay : stay + 2]
        for first in range(begin, end, 64):
            last = min(first + 64, end)
            hidden[first:last] = next(at)[0].numpy()
    return hidden


def _error_of_best_line(hidden: np.ndarray, targets: StepTargets) -> float:
    errors = []
    design = np.column_stack([hidden, np.ones(len(hidden))])
    for value, weight in zip(targets.value.T, targets.weight.T, strict=True):
        rows = weight > 0
        if rows.sum() > 50:
            line, *_ = np.linalg.lstsq(design[rows], value[rows].astype(np.float64), rcond=None)
            errors.append(float(np.mean((design[rows] @ line - value[rows]) ** 2)))
    return float(np.mean(errors))


@pytest.mark.parametrize("batch", [3, 9])
def test_an_interrupted_run_with_heads_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    changes = {"max_epochs": 3, "average_decay": 0.9}
    whole = fit(tmp_path / "whole", BOTH, **changes)
    with monkeypatch.context() as patch:
        StopsAt(patch, tmp_path / "cut", batch)
        with pytest.raises(Interrupted):
            fit(tmp_path / "cut", BOTH, **changes)
    assert_same(fit(tmp_path / "cut", BOTH, resume=True, **changes), whole)


def test_the_loss_is_the_weighted_sum_of_means_over_all_batches_of_a_step(tmp_path: Path) -> None:
    found = targets_of(BOTH, tmp_path)
    assert found is not None
    tapes = Tapes(
        ENCODED,
        stay_targets(ENCODED),
        rows=4,
        truncation_length=5,
        seed=1,
        accumulate=10_000,
        auxiliary=found,
    )
    heads = AuxiliaryHeads(3, found.groups)
    torch.nn.init.zeros_(heads.linear.weight)
    with torch.no_grad():
        losses = [heads.loss(torch.zeros(*b.chunk.valid.shape, 3), b.auxiliary) for b in tapes if b.auxiliary]
    total = float(sum(losses))
    value, weight = (np.asarray(a, dtype=np.float64) for a in (found.targets.value, found.targets.weight))
    expected = 0.0
    for group in found.groups:
        own = slice(group.begin, group.end)
        expected += group.weight * (value[:, own] ** 2 * weight[:, own]).sum() / weight[:, own].sum()
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_two_processes_with_heads_equal_one(tmp_path: Path) -> None:
    sgd = {"optimizer": Optimizer.SGD, "learning_rate": 0.1}
    network = replace(NETWORK, output_dropout=0.0)
    runs = []
    for devices in (1, 2):
        part, folder = (ENCODED, stay_targets(ENCODED)), tmp_path / str(devices)
        runs.append(
            fit_network(
                train=part,
                validation=part,
                network=network,
                task=STAY_TASK,
                training=quick_training(auxiliary=BOTH, devices=devices, **sgd),
                seed=2,
                folder=folder,
                auxiliary=targets_of(BOTH, folder / "targets"),
            )
        )
    for name, weight in runs[0].network.state_dict().items():
        torch.testing.assert_close(runs[1].network.state_dict()[name], weight, rtol=0, atol=1e-6)


def test_what_cannot_be_forecast_is_refused(tmp_path: Path) -> None:
    lacking = encoding_of(features=(Feature.VALUE, Feature.GAP))
    with pytest.raises(ConfigError, match="value and mask"):
        targets_of(AuxiliaryConfig(1.0), tmp_path, encoding=lacking, encoded=lacking.encode(COHORT.stays))
    with pytest.raises(ConfigError, match="bidirectional"):
        fit_network(
            train=(ENCODED, stay_targets(ENCODED)),
            validation=(ENCODED, stay_targets(ENCODED)),
            network=replace(NETWORK, bidirectional=True),
            task=STAY_TASK,
            training=quick_training(auxiliary=AuxiliaryConfig(1.0)),
            seed=0,
            folder=tmp_path,
            auxiliary=targets_of(AuxiliaryConfig(1.0), tmp_path),
        )


def test_a_run_whose_targets_are_missing_is_refused(tmp_path: Path) -> None:
    part = (ENCODED, stay_targets(ENCODED))
    with pytest.raises(ConfigError, match="auxiliary must be given"):
        fit_network(
            train=part,
            validation=part,
            network=NETWORK,
            task=STAY_TASK,
            training=quick_training(auxiliary=BOTH),
            seed=0,
            folder=tmp_path,
        )


def test_targets_of_other_stays_are_refused(tmp_path: Path) -> None:
    found = targets_of(BOTH, tmp_path)
    fewer = ENCODED.select([0, 1, 2])
    with pytest.raises(DataError, match="auxiliary must be the targets"):
        Tapes(fewer, stay_targets(fewer), rows=2, truncation_length=5, seed=0, auxiliary=found)


def test_an_outcome_that_is_not_binary_is_refused(tmp_path: Path) -> None:
    wanted = AuxiliaryConfig(outcomes=(AuxiliaryOutcome("stay_h", TargetKind.BINARY),))
    with pytest.raises(DataError, match="0 and 1"):
        targets_of(wanted, tmp_path)
    unknown = {"stay_h": StayOutcomes(np.full(len(COHORT.stays), np.nan), np.full(len(COHORT.stays), np.nan))}
    with pytest.raises(DataError, match="known for some"):
        targets_of(AuxiliaryConfig(outcomes=BOTH.outcomes), tmp_path, outcomes=unknown)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AuxiliaryConfig(-0.1),
        lambda: AuxiliaryConfig(float("nan")),
        lambda: AuxiliaryOutcome("x", weight=-1.0),
        lambda: AuxiliaryOutcome("x", TargetKind.MULTICLASS),
        lambda: AuxiliaryConfig(outcomes=(AuxiliaryOutcome("x"), AuxiliaryOutcome("x"))),
    ],
)
def test_settings_without_meaning_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"training\.auxiliary"):
        make()


def test_values_are_read_where_the_encoding_writes_them() -> None:
    value, observed = ValueReader.of(ENCODING).read(ENCODED, 2, 9)
    names = ENCODING.feature_names
    for i, channel in enumerate(ENCODING.channels.names):
        np.testing.assert_array_equal(value[:, i], ENCODED.features[2:9, names.index(f"{channel}.value")])
        np.testing.assert_array_equal(observed[:, i], ENCODED.features[2:9, names.index(f"{channel}.mask")] > 0)
