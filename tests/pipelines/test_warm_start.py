"""A training that starts from a registered version: its encoding and weights, another hospital's patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.artifact import load_artifact
from models.cells import Cell
from models.encoding import Encoding
from models.errors import ConfigError, DataError, RefusedError
from models.record import from_plain, to_plain
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.members import fit_members
from pipelines.pretraining_config import PretrainingConfig
from pipelines.sources.simulator import simulate
from pipelines.train import TrainedRun, train
from pipelines.warm_start import Parent, check_local, inherited_config
from tests.pipelines.small_line import TINY

TWO = {"members": 2, "variants": [{}, {"network": {"cell": "lstm"}}]}
CONFIG = from_plain(RunConfig, TINY | {"ensemble": TWO}, where="config")
LOCAL = replace(
    from_plain(RunConfig, TINY | {"name": "local", "seed": 9}, where="config"),
    training=replace(CONFIG.training, max_epochs=1, learning_rate=1e-3),
)


def hospital(seed: int, stays: int = 400) -> Cohort:
    return simulate(stays=stays, seed=seed, mean_hours=24.0)


def without_channel(cohort: Cohort, name: str, *, instead: str = "") -> Cohort:
    """The cohort without a channel's observations and declaration; or with the channel under another name."""
    number = cohort.stays.channels.index(name)
    stays = cohort.stays
    if instead:
        names = tuple(instead if n == name else n for n in stays.channels)
        channels = tuple(replace(c, name=instead) if c.name == name else c for c in cohort.channels)
        return replace(cohort, stays=replace(stays, channels=names), channels=channels)
    kept = stays.channel != number
    counted = np.concatenate([[0], np.cumsum(kept)])
    changed = replace(
        stays,
        offsets=counted[stays.offsets].astype(np.int64),
        time_min=stays.time_min[kept],
        channel=np.where(stays.channel > number, stays.channel - 1, stays.channel)[kept].astype(np.int16),
        value=stays.value[kept],
        channels=tuple(n for n in stays.channels if n != name),
    )
    return replace(cohort, stays=changed, channels=tuple(c for c in cohort.channels if c.name != name))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return train([hospital(1)], CONFIG, folder=tmp_path_factory.mktemp("parent"), progress=False)


@pytest.fixture(scope="module")
def parent(first: TrainedRun) -> Parent:
    return Parent(load_artifact(first.artifact), "models:/tiny/1")


@pytest.fixture(scope="module")
def second(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedRun, list[str]]:
    lines: list[str] = []
    run = train(
        [hospital(2)],
        inherited_config(LOCAL, parent),
        folder=tmp_path_factory.mktemp("local"),
        progress=False,
        say=lines.append,
        parent=parent,
    )
    return run, lines


def test_encoding_tokenizer_and_shape_are_the_parents_and_the_loop_is_the_runs(
    parent: Parent, second: tuple[TrainedRun, list[str]]
) -> None:
    run, _ = second
    assert run.bundle.encoding == parent.bundle.encoding
    assert [m.network for m in run.bundle.members] == [m.network for m in parent.bundle.members]
    assert [m.network.cell for m in run.bundle.members if m.network] == [Cell.GRU, Cell.LSTM]
    tokenizers = [load_artifact(run.artifact).tokenizer, parent.scorer.tokenizer]
    assert len({t.to_json() for t in tokenizers if t is not None}) == 1
    assert run.bundle.config["training"] == to_plain(LOCAL.training)
    assert run.bundle.config["split"] == to_plain(LOCAL.split)
    assert run.bundle.name == "local"


def test_training_begins_at_every_members_weights(parent: Parent, tmp_path: Path) -> None:
    """At a rate of next to nothing, the weights stay where the parent's were, heads among them."""
    still = replace(LOCAL, training=replace(LOCAL.training, learning_rate=1e-12, weight_decay=0.0))
    config = inherited_config(still, parent)
    data = build_dataset(hospital(2), config, tmp_path, say=lambda _: None, parent=parent)
    members = fit_members(data, config, folder=tmp_path / "checkpoints")
    for mine, theirs in zip(members.ensemble, parent.scorer.network, strict=True):
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], tensor, rtol=0, atol=1e-6)


def test_before_and_after_stand_beside_each_other_with_paired_differences(
    parent: Parent, second: tuple[TrainedRun, list[str]]
) -> None:
    run, _ = second
    assert run.baselines["parent"]["stays"] == run.metrics["stays"]
    assert run.baselines["parent"]["metrics"]["auroc"]["value"] != run.metrics["metrics"]["auroc"]["value"]
    compared = {entry["with"]: entry for entry in run.report["comparisons"]}
    assert "parent" in compared
    assert "auroc" in str(compared["parent"])


def test_the_bundle_names_the_parent_and_what_it_was_trained_on(
    parent: Parent, second: tuple[TrainedRun, list[str]]
) -> None:
    facts = second[0].bundle.cohort
    assert facts["warm_started_from"]["digest"] == parent.scorer.digest
    assert facts["trained_on"]["fingerprint"] == hospital(1).fingerprint
    assert facts["fingerprint"] == hospital(2).fingerprint
    assert "encoding" not in facts["patient_digests"]
    guards = {guard["name"]: guard for guard in second[0].bundle.guards}
    assert parent.scorer.digest in guards["statistics"]["detail"]


def test_channels_that_the_cohort_lacks_or_has_beyond_the_parents_are_named(parent: Parent, tmp_path: Path) -> None:
    name = parent.encoding.channels.names[0]
    for cohort, told in (
        (without_channel(hospital(2), name), ["never observed here"]),
        (without_channel(hospital(2), name, instead="an_unknown"), ["never observed here", "not used"]),
    ):
        lines: list[str] = []
        check_local(cohort, parent, lines.append)
        said = "\n".join(lines)
        assert all(words in said for words in told)
        config = inherited_config(LOCAL, parent)
        folder = tmp_path / str(len(told))
        folder.mkdir()
        data = build_dataset(cohort, config, folder, say=lambda _: None, parent=parent)
        assert data.encoding == parent.encoding


def test_a_cohort_without_one_of_the_parents_channels_makes_a_whole_model(parent: Parent, tmp_path: Path) -> None:
    cohort = without_channel(hospital(2), parent.encoding.channels.names[0])
    run = train([cohort], inherited_config(LOCAL, parent), folder=tmp_path, progress=False, parent=parent)
    assert load_artifact(run.artifact).bundle.channels == parent.bundle.channels


def test_the_parents_own_cohort_is_refused(parent: Parent) -> None:
    with pytest.raises(RefusedError, match="another one than the parent"):
        check_local(hospital(1), parent, lambda _: None)


def test_another_unit_is_refused(parent: Parent) -> None:
    cohort = hospital(2)
    odd = replace(cohort, channels=(replace(cohort.channels[0], unit="furlong"), *cohort.channels[1:]))
    with pytest.raises(DataError, match=cohort.channels[0].name):
        check_local(odd, parent, lambda _: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": replace(CONFIG.task, outcome="deterioration")}, "task must be the parent's"),
        ({"pretraining": PretrainingConfig(epochs=1)}, "pretraining"),
    ],
)
def test_a_run_that_does_not_go_with_the_parent_is_refused(
    parent: Parent, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        inherited_config(replace(LOCAL, **changes), parent)


def test_the_encoding_is_not_fitted_again(parent: Parent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted")

    monkeypatch.setattr(Encoding, "fit", refuse)
    data = build_dataset(hospital(2), inherited_config(LOCAL, parent), tmp_path, say=lambda _: None, parent=parent)
    assert data.fitted_on.keys() == {"target_scale"}
