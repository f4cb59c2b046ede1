"""Small models on either grid, and live stays around one of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact import load_artifact
from models.channel_encoding import SUMMARIES, Feature
from models.encoding import EncodingConfig
from models.grid import GridKind
from models.scorer import Scorer

CHANNELS = ("heart_rate", "sbp", "temperature", "lactate")


@pytest.fixture(scope="session")
def scorers(make_artifact: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    """A model of two members that reads notes, and one of hourly bins that reads none and tells time by DELTA."""
    folder = tmp_path_factory.mktemp("live")
    hourly = EncodingConfig(grid=GridKind.FIXED, width_h=1.0, channels=CHANNELS, features=(*SUMMARIES, Feature.DELTA))
    event = make_artifact(folder / "event", reads_notes=True, members=2, seed=1)
    return {
        "event": load_artifact(event),
        "hourly": load_artifact(make_artifact(folder / "hourly", encoding=hourly, seed=2)),
    }
