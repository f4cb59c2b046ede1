"""A model in, made-up stays as requests out, each with the risk that the offline scorer gives at that moment.

The values lie around the model's own training means and are sent in accepted units, not always the canonical one, so
that a server has to convert them. `save_network` writes a model of a given shape with random weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifact import save_artifact
from models.bundle import Bundle
from models.calibration import Calibration
from models.cells import Cell
from models.channels import Channel, StaticKind, StaticVariable
from models.encoding import Encoding, EncodingConfig
from models.ensemble import Ensemble, network_members
from models.intake import Columns, build_stays, canonical_values
from models.network import NetworkConfig, RecurrentNetwork
from models.scorer import Scorer
from models.stay import Stays
from models.task import TargetKind, TaskSpec

ADMISSION = datetime(2020, 1, 1, tzinfo=UTC)
VALUES = 6
WINDOW_VALUES, WINDOW_STEPS = 200, 48
# Prefixes of stays that are scored at one time.
PREFIXES = 256


@dataclass(frozen=True)
class LiveStay:
    """One stay as bodies of requests.

    Args:
        opening: body of `PUT /v1/stays/{stay_id}`.
        steps: bodies of `POST .../observations`, one a time step.
        risks: the first output's offline risk after each of them.
    """

    opening: bytes
    steps: tuple[bytes, ...]
    risks: tuple[float, ...]


@dataclass(frozen=True)
class Window:
    """A whole stay as a body of `POST /v1/score`, and its first output's offline risk."""

    body: bytes
    risk: float


@dataclass(frozen=True)
class _Drawn:
    """Observations of one stay: minutes, channels, and values both canonical and as sent."""

    minute: list[int]
    channel: list[int]
    value: list[float]
    sent: list[dict[str, Any]]
    static: dict[str, Any]
    static_row: list[float]


def save_network(
    folder: Path, *, cell: Cell = Cell.LSTM, hidden_size: int = 128, layers: int = 2, seed: int = 0
) -> Path:
    """Saves a network with random weights, with the encoding of a simulated cohort."""
    from pipelines.sources.simulator import simulate

    cohort = simulate(200, 3)
    task = TaskSpec("in_hospital_death", description="death in hospital (simulated)")
    encoding = Encoding.fit(cohort.stays, EncodingConfig(), statics=cohort.statics)
    network = NetworkConfig(cell=cell, hidden_size=hidden_size, layers=layers)
    torch.manual_seed(seed)
    member = RecurrentNetwork(network, width=encoding.width, outputs=task.outputs, layout=encoding.layout)
    bundle = Bundle(
        name="benchmark",
        task=task,
        channels=cohort.channels,
        statics=cohort.statics,
        encoding=encoding,
        members=network_members(network),
        notes=None,
        calibration=Calibration.identity(TargetKind.BINARY, task.outputs),
        created="2026-01-01T00:00:00+00:00",
    )
    save_artifact(folder, bundle, Ensemble([member]))
    return folder


def live_stays(scorer: Scorer, count: int, steps: int, *, seed: int = 0, gap_min: int = 60) -> list[LiveStay]:
    """Stays of `steps` time steps of six values each, `gap_min` minutes apart."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        minutes = [gap_min * (k + 1) + int(rng.integers(gap_min)) for k in range(steps)]
        drawn = _draw(scorer.bundle, np.repeat(minutes, VALUES), rng)
        bodies = [_json({"observations": drawn.sent[VALUES * k : VALUES * (k + 1)]}) for k in range(steps)]
        opening = _json({"admission": ADMISSION.isoformat(), "static": drawn.static})
        found.append(LiveStay(opening, tuple(bodies), tuple(_risks(scorer, drawn, minutes))))
    return found


def windows(scorer: Scorer, count: int, *, seed: int = 0) -> list[Window]:
    """Stays of 200 observations on 48 time steps."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        minutes = np.sort(rng.choice(np.arange(1, 60 * WINDOW_STEPS), WINDOW_STEPS, replace=False))
        share = np.sort(np.arange(WINDOW_VALUES) % WINDOW_STEPS)
        drawn = _draw(scorer.bundle, minutes[share], rng)
        body = {"admission": ADMISSION.isoformat(), "observations": drawn.sent, "static": drawn.static}
        found.append(Window(_json(body), _risks(scorer, drawn, [int(minutes[-1])])[0]))
    return found


def _draw(bundle: Bundle, minutes: np.ndarray, rng: np.random.Generator) -> _Drawn:
    names = bundle.encoding.channels.names
    declared = {c.name: c for c in bundle.channels}
    standardiser = bundle.encoding.channels.standardiser
    channels, values, sent = [], [], []
    for minute, count in zip(*(column.tolist() for column in np.unique(minutes, return_counts=True)), strict=True):
        for index in np.resize(rng.permutation(len(names)), count).tolist():
            typical = standardiser.invert(np.array([index]), rng.standard_normal(1))
            value, item = _sendable(declared[names[index]], float(typical[0]), rng)
            channels.append(index)
            values.append(value)
            sent.append(item | {"time": (ADMISSION + timedelta(minutes=minute)).isoformat()})
    static, row = _static(bundle.statics, rng)
    return _Drawn(minutes.tolist(), channels, values, sent, static, row)


def _sendable(channel: Channel, typical: float, rng: np.random.Generator) -> tuple[float, dict[str, Any]]:
    """A value within hard limits: canonical, and as it is sent in one of the accepted units."""
    low, high = channel.hard
    middle = min(max(typical, low + 0.01 * (high - low)), high - 0.01 * (high - low))
    units = (channel.unit, *channel.accepts)
    unit = units[int(rng.integers(len(units)))]
    conversion = channel.conversion(unit)
    assert conversion is not None
    number = round((middle - conversion.offset) / conversion.factor, 6)
    canonical, within = canonical_values(channel, unit, np.array([number]))
    if not within[0]:
        raise ValueError(f"{channel.name} must have a value within its limits, got none; widen the draw")
    return float(canonical[0]), {"channel": channel.name, "value": number, "unit": unit}


def _static(variables: tuple[StaticVariable, ...], rng: np.random.Generator) -> tuple[dict[str, Any], list[float]]:
    sent: dict[str, Any] = {}
    row = []
    for variable in variables:
        if variable.kind is StaticKind.CATEGORICAL:
            index = int(rng.integers(len(variable.categories)))
            sent[variable.name] = variable.categories[index]
            row.append(float(index))
            continue
        low, high = max(variable.hard[0], 0.0), min(variable.hard[1], 100.0)
        value = round(float(rng.uniform(low, high)), 3)
        sent[variable.name] = {"value": value, "unit": variable.unit}
        row.append(value)
    return sent, row


def _risks(scorer: Scorer, drawn: _Drawn, ends: list[int]) -> list[float]:
    """The first output's risk of the stay up to each of these minutes, every prefix scored as a stay of its own."""
    risks: list[float] = []
    for begin in range(0, len(ends), PREFIXES):
        scored = scorer.score(_prefixes(scorer.bundle, drawn, ends[begin : begin + PREFIXES]))
        risks += scored.risk[scored.final, 0].tolist()
    return risks


def _prefixes(bundle: Bundle, drawn: _Drawn, ends: list[int]) -> Stays:
    minute = np.array(drawn.minute, dtype=np.int64)
    stay, row = np.nonzero(minute[None] <= np.array(ends)[:, None])
    stays, _ = build_stays(
        stay_id=[str(i) for i in range(len(ends))],
        end_min=np.array(ends, dtype=np.int64),
        columns=Columns(stay, minute[row], np.array(drawn.channel, np.int16)[row], np.array(drawn.value)[row]),
        channels=bundle.encoding.channels.names,
        static=np.tile(np.array(drawn.static_row, dtype=np.float64), (len(ends), 1)),
        static_names=tuple(s.name for s in bundle.statics),
    )
    return stays


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
