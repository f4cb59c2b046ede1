"""A tagging run that was stopped goes on to the very model that it would have been."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.errors import ConfigError
from pipelines.text.tagging_config import TaggingBaselines
from pipelines.text.tagging_train import train_tagger
from pipelines.training_loop import Interrupted
from tests.pipelines.text.tagging_corpus import made_corpus
from tests.pipelines.text.test_tagging_train import CONFIG

SHORT = replace(CONFIG, training=replace(CONFIG.training, max_epochs=3), baselines=TaggingBaselines(False, False))


def test_a_stopped_run_ends_bit_for_bit_where_an_unbroken_one_does(tmp_path):
    whole = train_tagger(made_corpus(held_out=True), SHORT, folder=tmp_path / "whole")
    broken, told = tmp_path / "broken", []

    def stop(row):
        told.append(row["epoch"])
        if row["epoch"] < 2:
            (broken / "checkpoints" / "stop").touch()

    for _ in range(2):
        with pytest.raises(Interrupted, match="resume"):
            train_tagger(made_corpus(held_out=True), SHORT, folder=broken, resume=True, on_epoch=stop)
    resumed = train_tagger(made_corpus(held_out=True), SHORT, folder=broken, resume=True, on_epoch=stop)
    assert told == [0, 1, 2]
    figures = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.history] for run in (whole, resumed)]
    assert figures[0] == figures[1]
    for ours, theirs in zip(whole.tagger.network.parameters(), resumed.tagger.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    again = train_tagger(made_corpus(held_out=True), SHORT, folder=broken, resume=True, on_epoch=stop)
    assert told == [0, 1, 2]
    assert again.history == resumed.history


def test_another_runs_checkpoint_is_refused_and_not_looked_at_without_resume(tmp_path):
    once = replace(SHORT, training=replace(SHORT.training, max_epochs=1))
    train_tagger(made_corpus(held_out=True), once, folder=tmp_path)
    for other in (replace(once, seed=9), replace(once, network=replace(once.network, dropout=0.2))):
        with pytest.raises(ConfigError, match="same settings and data"):
            train_tagger(made_corpus(held_out=True), other, folder=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="same settings and data"):
        train_tagger(made_corpus(100, held_out=True), once, folder=tmp_path, resume=True)
    assert len(train_tagger(made_corpus(held_out=True), replace(once, seed=9), folder=tmp_path).history) == 1
