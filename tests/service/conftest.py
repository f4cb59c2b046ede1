"""A tiny model with random weights, saved and loaded as any other, and an application around it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from models.artifact import load_artifact, save_artifact
from models.bundle import Bundle
from models.calibration import Calibration
from models.channel_table import channel_by_name, static_by_name
from models.channels import Channel
from models.encoding import Encoding, EncodingConfig
from models.ensemble import Ensemble, network_members
from models.intake import Columns, build_stays
from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NotesConfig, NoteTokenizer
from models.scorer import Scorer
from models.stay import Stays
from models.task import TargetKind, TaskSpec
from models.uncertainty import Uncertainty
from service.app import create_app
from service.settings import Settings
from tests.service.live.served import Served

CHANNELS = (
    channel_by_name("heart_rate"),
    channel_by_name("sbp"),
    channel_by_name("temperature"),
    channel_by_name("lactate"),
    Channel("bed_angle", "deg", (0.0, 90.0), soft=(0.0, 45.0)),
)
STATICS = (static_by_name("age"), static_by_name("sex"))
AUROC = {"value": 0.85, "low": 0.82, "high": 0.88}
ArtifactMaker = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_mlflow_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away the addresses that tests of registration leave: MLflow writes them to the process's environment."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps live stays, the audit and MLflow out of the working directory; a test that needs one of them names it."""
    monkeypatch.setenv("SEQUELA_STORE", "memory:")
    monkeypatch.setenv("SEQUELA_AUDIT", "off")
    monkeypatch.setenv("SEQUELA_WATCH_S", "0")


def _training_stays(count: int = 24) -> Stays:
    rng = np.random.default_rng(7)
    rows = 12 * count
    channel = rng.integers(len(CHANNELS), size=rows)
    centre = np.array([90.0, 120.0, 37.0, 2.0, 30.0])
    columns = Columns(
        stay=np.repeat(np.arange(count), 12),
        time_min=rng.integers(0, 48 * 60, size=rows),
        channel=channel.astype(np.int16),
        value=centre[channel] * rng.uniform(0.8, 1.2, size=rows),
    )
    stays, _ = build_stays(
        stay_id=tuple(f"training-{i}" for i in range(count)),
        end_min=np.full(count, 48 * 60),
        columns=columns,
        channels=tuple(c.name for c in CHANNELS),
        static=np.column_stack([rng.uniform(30, 90, size=count), rng.integers(2, size=count)]),
        static_names=tuple(s.name for s in STATICS),
    )
    return stays


def _save(
    folder: Path,
    *,
    task: TaskSpec | None = None,
    encoding: EncodingConfig | None = None,
    reads_notes: bool = False,
    seed: int = 0,
    members: int = 1,
    uncertainty: Uncertainty | None = None,
    **facts: Any,
) -> Path:
    task = task or TaskSpec("in_hospital_death", description="death in hospital")
    notes = NotesConfig(enabled=True, embedding_size=4, hidden_size=4) if reads_notes else None
    tokenizer = NoteTokenizer.train((), (), notes) if notes else None
    channels = ("heart_rate", "sbp", "temperature", "lactate")
    fitted = Encoding.fit(_training_stays(), encoding or EncodingConfig(channels=channels), statics=STATICS)
    network = NetworkConfig(hidden_size=8, dropout=0.0)
    torch.manual_seed(seed)
    networks = [
        RecurrentNetwork(
            network,
            width=fitted.width,
            outputs=task.outputs,
            notes=notes,
            vocabulary_size=tokenizer.vocabulary_size if tokenizer else 0,
        )
        for _ in range(members)
    ]
    regression = task.kind is TargetKind.REGRESSION
    bundle = Bundle(
        name="mortality",
        task=task,
        channels=CHANNELS,
        statics=STATICS,
        encoding=fitted,
        members=network_members(*[network] * members),
        notes=notes,
        calibration=Calibration.identity(
            task.kind, task.outputs, mean=5.0 if regression else 0.0, scale=2.0 if regression else 1.0
        ),
        thresholds={f"{task.output_names[0]}/event1": 0.3},
        uncertainty=uncertainty,
        metrics={"network": {"stays": 900, "events": 90, "metrics": {"auroc": AUROC}}},
        cohort={"source": "simulated", "licence": "none needed"},
        created="2026-01-01T00:00:00Z",
    )
    save_artifact(folder, bundle, Ensemble(networks), tokenizer, **facts)
    return folder


@pytest.fixture(scope="session")
def make_artifact() -> ArtifactMaker:
    """Writes a tiny artifact to a folder."""
    return _save


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny binary model on the event grid that reads notes."""
    return _save(tmp_path_factory.mktemp("artifacts") / "mortality", reads_notes=True)


@pytest.fixture(scope="session")
def scorer(artifact: Path) -> Scorer:
    """The tiny model, loaded."""
    return load_artifact(artifact)


@pytest.fixture
def settings() -> Settings:
    """Settings whose host is the test client's."""
    return Settings(trusted_hosts=("testserver",))


@pytest.fixture
def client(scorer: Scorer, settings: Settings) -> Iterator[TestClient]:
    """A client of a started application."""
    with TestClient(create_app(settings, scorer)) as started:
        yield started


@pytest.fixture
def live_address(artifact: Path, tmp_path: Path) -> Iterator[str]:
    """Address of a service that runs as a process of its own, over a store in a file."""
    with Served(artifact, tmp_path) as served:
        yield served.address
