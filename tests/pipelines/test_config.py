"""A configuration is one TOML file: typed, refused where it does not hold, and documented whole."""

import dataclasses
from pathlib import Path

import pytest

from models.errors import ConfigError
from models.record import from_plain, to_plain
from models.task import TargetKind
from pipelines.config import RunConfig, load_config, read_plain
from pipelines.text.config import TextRunConfig, load_text_config
from pipelines.text.tagging_config import TaggingRunConfig, load_tagging_config

ROOT = Path(__file__).parents[2]
MINIMAL = 'name = "m"\n[task]\noutcome = "death"\n'


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_every_configuration_that_ships_loads_and_survives_json(path):
    load, kind = _of(read_plain(path, [])["task"].get("kind", "binary"))
    config = load(path, [])
    assert from_plain(kind, to_plain(config), where="config") == config


def _of(kind):
    """What reads a configuration of this kind of task, and what it is then."""
    if kind == "tagging":
        return load_tagging_config, TaggingRunConfig
    return (load_config, RunConfig) if kind in set(TargetKind) else (load_text_config, TextRunConfig)


def test_overrides_reach_nested_keys_with_their_types(file):
    config = load_config(
        file, ["training.max_epochs=5", "network.cell=lstm", "task.horizons_h=[6, 12]", "task.scope=step"]
    )
    assert config.training.max_epochs == 5
    assert config.network.cell == "lstm"
    assert config.task.horizons_h == (6.0, 12.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs=5", "config.training must hold only the keys .* got epochs"),
        ("training.max_epochs=five", "config.training.max_epochs must be of type int"),
        ("training", "--set must be key=value"),
        ("name.first=x", "--set must name a key of a table"),
        ("name=../../etc", "name must be letters"),
        ("calibration.strength=-1", "calibration.strength must be at least 0"),
        ("calibration.include_validation=true", "must go with training.monitor 'last_epoch'"),
        ("split.train=0.9", "add up to 1"),
        ("network.cell=gru_d", "must hold value, mask and delta"),
        ("ensemble={members = 2, folds = 2}", "ensemble.folds must go with training.monitor 'last_epoch'"),
    ],
)
def test_what_does_not_hold_is_refused_with_its_key(file, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(file, [override])


def test_a_missing_file_and_broken_toml_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")
    (tmp_path / "broken.toml").write_text("name = ", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load_config(tmp_path / "broken.toml")


def test_the_guide_names_every_key():
    guide = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    sections = {s.partition("`")[0]: s for s in guide.split("## `[")[1:]}
    for field in dataclasses.fields(RunConfig):
        section = sections.get(field.name + "]")
        keys = to_plain(getattr(load_config(ROOT / "configs" / "mortality-2012.toml"), field.name))
        if isinstance(keys, dict):
            assert section is not None, field.name
            assert [k for k in keys if not isinstance(keys[k], dict) and f"| `{k}` |" not in section] == []
        else:
            assert f"| `{field.name}` |" in guide
