"""Pre-training sees the training stays alone, predicts what it cannot read, and leaves weights to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.channel_encoding import Feature
from models.encoding import Encoding, EncodingConfig
from models.errors import ConfigError, DataError
from models.grid import GridKind
from models.network import NetworkConfig
from models.record import from_plain
from pipelines.auxiliary import ValueReader
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.fit import Interrupted
from pipelines.masking import mask_stays
from pipelines.members import fit_members
from pipelines.pretrain import Pretrained, pretrain, value_targets
from pipelines.pretraining_config import PretrainingConfig
from pipelines.split import Part
from tests.pipelines.small_line import TINY
from tests.pipelines.test_auxiliary import reference
from tests.pipelines.test_resume import StopsAt, assert_same
from tests.support import small_cohort
from tests.tape_data import quick_training

COHORT = small_cohort(stays=40)
CONFIG = PretrainingConfig(epochs=2, learning_rate=5e-3)
NETWORK = NetworkConfig(hidden_size=8, skip=True, dropout=0.0)
ENCODINGS = {
    kind: Encoding.fit(COHORT.stays, EncodingConfig(grid=kind, width_h=2.0), statics=COHORT.statics)
    for kind in GridKind
}
ENCODING = ENCODINGS[GridKind.FIXED]


def run(folder: Path, config: PretrainingConfig = CONFIG, **changes: Any) -> Pretrained:
    encoding = changes.pop("encoding", ENCODING)
    settings: dict[str, Any] = {"network": NETWORK, "seed": 3, "training": quick_training()}
    return pretrain(
        COHORT.stays,
        encoding.encode(COHORT.stays),
        encoding,
        tokenizer=None,
        notes=None,
        config=config,
        folder=folder,
        **(settings | changes),
    )


@pytest.mark.parametrize("kind", list(GridKind))
def test_the_targets_are_the_next_values_and_those_that_were_taken_out(tmp_path: Path, kind: GridKind) -> None:
    encoding = ENCODINGS[kind]
    whole = encoding.encode(COHORT.stays)
    masked = encoding.encode(mask_stays(COHORT.stays, encoding, share=0.3, seed=1, notes=False))
    config = replace(CONFIG, next_value_weight=0.2, masked_value_weight=0.7)
    targets = value_targets(whole, masked, encoding, config, folder=tmp_path)
    channels, steps = len(encoding.channels.names), len(whole.time_min)
    value, weight = reference(whole, encoding)
    np.testing.assert_array_equal(targets.value[:, :channels], value)
    np.testing.assert_array_equal(targets.weight[:, :channels] > 0, weight > 0)
    reader = ValueReader.of(encoding)
    (last, observed), (_, left) = (reader.read(e, 0, steps) for e in (whole, masked))
    gone = observed & ~left
    assert gone.any()
    np.testing.assert_array_equal(targets.value[:, channels:], np.where(gone, last, 0.0))
    np.testing.assert_array_equal(targets.weight[:, channels:] > 0, gone)
    shares = [float(w.sum(dtype=np.float64)) / steps for w in np.split(np.asarray(targets.weight), [channels], axis=1)]
    assert shares == pytest.approx([0.2, 0.7], rel=1e-4)


def test_it_learns_and_leaves_all_weights_but_the_heads(tmp_path: Path) -> None:
    found = run(tmp_path, replace(CONFIG, epochs=12))
    losses = [row["train_loss"] for row in found.fit.history]
    assert losses[-1] < 0.9 * losses[0]
    heads = {name for name in found.fit.network.state_dict() if name.startswith(("head.", "skip."))}
    assert heads
    assert found.weights.keys() == found.fit.network.state_dict().keys() - heads


def test_features_of_patients_do_not_outlive_it(tmp_path: Path) -> None:
    run(tmp_path)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, masked_value_weight=0.0, mask_share=0.0),
        replace(CONFIG, next_value_weight=0.0),
    ],
)
def test_either_kind_of_value_can_be_learnt_alone(tmp_path: Path, config: PretrainingConfig) -> None:
    found = run(tmp_path, config)
    assert found.fit.network.outputs == len(ENCODING.channels.names)


def test_an_interrupted_run_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        StopsAt(patch, tmp_path / "cut", 4)
        with pytest.raises(Interrupted):
            run(tmp_path / "cut")
    assert_same(run(tmp_path / "cut", resume=True).fit, whole.fit)


def _members(cohort: Cohort, folder: Path, **pretraining: Any) -> Any:
    plain = TINY | {"notes": {"enabled": False}, "pretraining": pretraining, "ensemble": {"members": 2}}
    config = from_plain(RunConfig, plain, where="config")
    config = replace(config, training=replace(config.training, max_epochs=1))
    folder.mkdir()
    data = build_dataset(cohort, config, folder, say=lambda _: None)
    return data, config, folder


def test_only_the_training_stays_are_read(tmp_path: Path) -> None:
    """Other values in validation, calibration and test stays leave the pre-trained weights as they are."""
    cohort = small_cohort(stays=150)
    data, config, _ = _members(cohort, tmp_path / "a", epochs=1)
    others = np.concatenate([data.parts[part].index for part in Part if part is not Part.TRAIN])
    rows = np.isin(cohort.stays.stay_of_row(), others)
    stays = replace(cohort.stays, value=np.where(rows, cohort.stays.value + 1.0, cohort.stays.value))
    changed, _, _ = _members(replace(cohort, stays=stays), tmp_path / "b", epochs=1)
    weights = []
    for given in (data, changed):
        train = given.parts[Part.TRAIN]
        found = pretrain(
            train.stays,
            train.encoded,
            given.encoding,
            tokenizer=None,
            network=config.network,
            notes=None,
            config=config.pretraining,
            training=config.training,
            seed=1,
            folder=tmp_path / "weights" / str(len(weights)),
        )
        weights.append(found.weights)
    assert not np.array_equal(data.parts[Part.TEST].encoded.features, changed.parts[Part.TEST].encoded.features)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_every_member_is_pre_trained_from_its_own_seed(tmp_path: Path) -> None:
    cohort = small_cohort(stays=150)
    data, config, folder = _members(cohort, tmp_path / "with", epochs=1)
    fit_members(data, config, folder=folder / "checkpoints")
    best = sorted(folder.glob("checkpoints/member-*/pretraining/best.safetensors"))
    assert len(best) == 2
    assert best[0].read_bytes() != best[1].read_bytes()
    assert "pretraining" in data.fitted_on


def test_masked_stays_must_be_the_same_stays(tmp_path: Path) -> None:
    whole = ENCODING.encode(COHORT.stays)
    with pytest.raises(DataError, match="time steps"):
        value_targets(whole, whole.select(range(39)), ENCODING, CONFIG, folder=tmp_path)


def test_what_cannot_be_predicted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bidirectional"):
        run(tmp_path, network=replace(NETWORK, bidirectional=True))
    lacking = Encoding.fit(COHORT.stays, EncodingConfig(features=(Feature.VALUE,)), statics=COHORT.statics)
    with pytest.raises(ConfigError, match="value and mask"):
        run(tmp_path, encoding=lacking)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": -1},
        {"mask_share": 1.0},
        {"learning_rate": 0.0},
        {"next_value_weight": -1.0},
        {"next_value_weight": 0.0, "masked_value_weight": 0.0, "mask_share": 0.0},
        {"mask_share": 0.0},
        {"masked_value_weight": 0.0},
    ],
)
def test_settings_without_meaning_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="pretraining"):
        replace(CONFIG, **changes)
