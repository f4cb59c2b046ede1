"""A space is checked whole before the first trial, and a trial's values land where the run reads them."""

import copy

import optuna
import pytest

from models.errors import ConfigError
from pipelines.tune_space import DEFAULT_SPACE, Space
from tests.pipelines.small_line import TINY


def plain(space, **tables):
    return copy.deepcopy({**TINY, **tables, "tune": {"space": space}})


def test_without_a_space_sizes_dropout_rate_and_decay_are_searched():
    space = Space.of({**TINY})
    assert [p.key for p in space.parameters] == list(DEFAULT_SPACE)


def test_a_draw_lands_in_the_run_s_tables_and_leaves_the_others_alone():
    space = Space.of(plain({"training.rows": [8], "network.cell": ["lstm"], "encoding.features": [["mask"]]}))
    drawn = space.draw(
        optuna.trial.FixedTrial({"training.rows": 8, "network.cell": "lstm", "encoding.features": '["mask"]'})
    )
    assert drawn == {"training.rows": 8, "network.cell": "lstm", "encoding.features": ["mask"]}
    config = space.config(drawn)
    assert (config.training.rows, config.network.cell, config.encoding.features) == (8, "lstm", ("mask",))
    before = space.config({})
    assert before.training.rows == TINY["training"]["rows"]
    assert (config.split, config.task) == (before.split, before.task)


@pytest.mark.parametrize(
    ("wanted", "low", "high", "kind"),
    [
        ({"low": 1, "high": 3}, 1, 3, int),
        ({"low": 16, "high": 64, "step": 16}, 16, 64, int),
        ({"low": 4, "high": 64, "log": True}, 4, 64, int),
    ],
)
def test_a_whole_number_s_range_gives_whole_numbers(wanted, low, high, kind):
    space = Space.of(plain({"network.hidden_size": wanted}))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [space.draw(study.ask())["network.hidden_size"] for _ in range(40)]
    assert {type(v) for v in values} == {kind}
    assert min(values) >= low
    assert max(values) <= high
    assert {(v - low) % wanted.get("step", 1) for v in values} == {0}


def test_a_float_s_range_from_whole_ends_gives_what_lies_between():
    space = Space.of(plain({"training.weight_decay": {"low": 0, "high": 1}}))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [space.draw(study.ask())["training.weight_decay"] for _ in range(10)]
    assert all(0 < v < 1 for v in values)


def test_quoted_keys_and_tables_say_the_same():
    quoted = Space.of(plain({"training.learning_rate": {"low": 1e-3, "high": 1e-2}, "training.rows": [8, 16]}))
    nested = Space.of(plain({"training": {"learning_rate": {"low": 1e-3, "high": 1e-2}, "rows": [8, 16]}}))
    assert quoted.parameters == nested.parameters


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"training.speed": [1]}, "got training.speed; training has"),
        ({"split.train": [0.5]}, "got split.train; remove it"),
        ({"task.outcome": ["a"]}, "got task.outcome; remove it"),
        ({"calibration.method": ["platt"]}, "got calibration.method; remove it"),
        ({"training": [1]}, "got training; remove it"),
        ({"network.hidden_size.deep": [1]}, "got network.hidden_size.deep"),
        ({"network.hidden_size": [32, 0]}, r"tune\.space\.network\.hidden_size .* got 0"),
        ({"network.hidden_size": ["wide"]}, r"tune\.space\.network\.hidden_size .* got 'wide'"),
        ({"network.dropout": {"low": 0.0, "high": 1.5}}, r"tune\.space\.network\.dropout .* got 1\.5"),
        ({"network.hidden_size": []}, "a list of different values"),
        ({"network.hidden_size": [8, 8]}, "a list of different values"),
        ({"network.hidden_size": 8}, "a list of choices or a table"),
        ({"network.hidden_size": {"low": 8, "high": 8}}, "low is below its high"),
        ({"network.hidden_size": {"low": 8.5, "high": 9}}, "whole numbers"),
        ({"network.hidden_size": {"low": 8, "high": 17, "step": 2}}, "whole steps"),
        ({"network.hidden_size": {"low": 8, "high": 16, "scale": "log"}}, "numbers low, high, step"),
        ({"network.hidden_size": {"low": "8", "high": 16}}, "numbers low, high, step"),
        ({"network.hidden_size": {"low": 8}}, "numbers low, high, step"),
        ({"training.learning_rate": {"low": 0.0, "high": 1.0, "log": True}}, "above 0"),
        ({"network.skip": {"low": 0, "high": 1}}, "as the key is no number"),
    ],
)
def test_what_no_run_takes_is_refused_by_its_key(space, message):
    with pytest.raises(ConfigError, match=message):
        Space.of(plain(space))


def test_a_value_that_holds_with_others_of_the_space_is_no_mistake():
    space = Space.of(plain({"training.nesterov": [False, True], "training.optimizer": ["adamw", "sgd"]}))
    assert space.config({"training.nesterov": True, "training.optimizer": "sgd"}).training.nesterov
    with pytest.raises(ConfigError, match="nesterov"):
        space.config({"training.nesterov": True, "training.optimizer": "adamw"})


def test_a_value_that_holds_with_none_of_the_space_is_one():
    with pytest.raises(ConfigError, match=r"tune\.space\.training\.nesterov"):
        Space.of(plain({"training.nesterov": [False, True], "training.optimizer": ["adamw", "adam"]}))


def test_a_key_that_the_first_variant_sets_is_refused_as_every_trial_would_be_the_same():
    ensemble = {"members": 2, "variants": [{"network": {"hidden_size": 8}, "training": {"rows": 8}}, {}]}
    for key in ("network.hidden_size", "training.rows"):
        with pytest.raises(ConfigError, match=rf"first of ensemble\.variants leaves open, got {key}"):
            Space.of(plain({key: [4, 16]}, ensemble=ensemble))
    later = {"members": 2, "variants": [{}, {"network": {"hidden_size": 8}}]}
    assert len(Space.of(plain({"network.hidden_size": [4, 16]}, ensemble=later)).parameters) == 1
