"""What the heads beside the task's own are taught: encoded training stays and outcomes in, targets a time step out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from models.channel_encoding import Feature
from models.cut import Cut, gather, read_rows
from models.encoded import Encoded
from models.encoding import Encoding
from models.errors import ConfigError, DataError
from models.stay import Ints
from models.task import TargetKind
from pipelines.auxiliary_config import AuxiliaryConfig
from pipelines.labels import StayOutcomes, StepTargets, make_targets, step_labels, target_scale

_STEPS_AT_ONCE = 16_384
NEXT_VALUES = "next_values"


@dataclass(frozen=True)
class AuxiliaryGroup:
    """Columns of the targets that make one loss.

    Args:
        name: what they are.
        begin: first column.
        end: one past the last.
        kind: binary (cross-entropy) or regression (squared error).
        weight: of the loss beside the task's own.
    """

    name: str
    begin: int
    end: int
    kind: TargetKind
    weight: float


@dataclass(frozen=True)
class AuxiliaryTargets:
    """Targets of all auxiliary heads, end to end like `Encoded`.

    Args:
        groups: the losses, by column.
        targets: value and weight (steps, columns) of every time step.
    """

    groups: tuple[AuxiliaryGroup, ...]
    targets: StepTargets

    def select(self, step_offsets: Ints, stays: Ints) -> AuxiliaryTargets:
        """The targets of the stays at these indices, in this order."""
        return AuxiliaryTargets(self.groups, self.targets.select(step_offsets, stays))

    def on_units(self, first: Ints, count: Ints) -> AuxiliaryUnits:
        """The targets of tapes whose units, consecutive, begin at `first` and hold `count` time steps each.

        Raises:
            DataError: if the units are of other stays than the targets.
        """
        if int(count.sum()) != len(self.targets.value):
            raise DataError(
                f"auxiliary must be the targets of {int(count.sum())} time steps, got {len(self.targets.value)}; build "
                "them from the same encoding"
            )
        return AuxiliaryUnits(self, self._amounts(first, count))

    def _amounts(self, first: Ints, count: Ints) -> NDArray[np.float64]:
        """(units, groups) weight; read in blocks to stay small in memory."""
        amount = np.zeros((len(first), len(self.groups)))
        ends = np.cumsum(count)
        begin = 0
        while begin < len(first):
            held = int(np.searchsorted(ends, ends[begin] - count[begin] + _STEPS_AT_ONCE, side="right"))
            block = slice(begin, max(held, begin + 1))
            start, stop = int(first[block][0]), int(first[block][-1] + count[block][-1])
            weight = read_rows(self.targets.weight, start, stop)
            for column, group in enumerate(self.groups):
                steps = weight[:, group.begin : group.end].sum(axis=1, dtype=np.float64)
                amount[block, column] = np.add.reduceat(steps, first[block] - start)
            begin = block.stop
        return amount


@dataclass(frozen=True)
class AuxiliaryBatch:
    """Auxiliary targets of one chunk.

    Args:
        target: (batch, time, columns) float32.
        weight: (batch, time, columns) float32; 0 = not supervised.
        normaliser: by group, what its loss is divided by: the weight of this batch and the others that make one
            optimiser step with it, over all ranks.
        amount: by group, this batch's own share of it, over all ranks.
    """

    target: Tensor
    weight: Tensor
    normaliser: tuple[float, ...]
    amount: tuple[float, ...]

    def to(self, device: torch.device | str) -> AuxiliaryBatch:
        """The same targets on a device."""
        return AuxiliaryBatch(self.target.to(device), self.weight.to(device), self.normaliser, self.amount)


@dataclass(frozen=True)
class AuxiliaryUnits:
    """Auxiliary targets in the units of a tape.

    Args:
        auxiliary: the targets.
        amount: (units, groups) weight within each unit.
    """

    auxiliary: AuxiliaryTargets
    amount: NDArray[np.float64]

    def shares(self, units: Ints, window: Ints) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(batches, groups) normaliser and amount of every batch.

        Args:
            units: (batches, rows) which unit stands where; -1 = nothing.
            window: (batches,) which optimiser step a batch belongs to.
        """
        amount = np.where(units[..., None] >= 0, self.amount[units], 0.0).sum(axis=1)
        columns = [np.bincount(window, weights=column)[window] for column in amount.T]
        return np.stack(columns, axis=1), amount

    def cut(self, cut: Cut, normaliser: NDArray[np.float64], amount: NDArray[np.float64]) -> AuxiliaryBatch:
        """The targets of a chunk with its shares."""
        targets = self.auxiliary.targets
        value, weight = (torch.from_numpy(gather(a, cut)) for a in (targets.value, targets.weight))
        return AuxiliaryBatch(value, weight, tuple(normaliser.tolist()), tuple(amount.tolist()))


def check_auxiliary(config: AuxiliaryConfig, given: AuxiliaryTargets | None, *, bidirectional: bool) -> None:
    """Refuses targets that a configuration asks for and that are missing or not to be forecast.

    Raises:
        ConfigError: if there are none, or the network has read the next time step.
    """
    if config.enabled and given is None:
        raise ConfigError("auxiliary must be given where training.auxiliary has a weight, got none; build the targets")
    if config.next_value_weight > 0 and bidirectional:
        raise ConfigError(
            "training.auxiliary.next_value_weight must be 0 for a bidirectional network, which has read the next step, "
            f"got {config.next_value_weight}; drop it or set network.bidirectional to false"
        )


def auxiliary_targets(
    config: AuxiliaryConfig,
    encoded: Encoded,
    encoding: Encoding,
    outcomes: dict[str, StayOutcomes],
    *,
    replication: float,
    folder: Path,
) -> AuxiliaryTargets | None:
    """Targets of the training stays; None where nothing has a weight.

    Args:
        config: which heads there are.
        encoded: the training stays.
        encoding: what encoded them.
        outcomes: the outcomes that `config` names, of these stays.
        replication: `training.target_replication`, for outcomes of scope `stay`.
        folder: exists; receives the targets, which are patient data and mapped, not held in memory.

    Raises:
        ConfigError: if next values are asked for and the encoding has no value or mask.
        DataError: if a binary outcome has other values than 0 and 1, or no stay has an outcome.
    """
    groups: list[AuxiliaryGroup] = []
    channels = len(encoding.channels.names) if config.next_value_weight > 0 else 0
    if channels:
        groups.append(AuxiliaryGroup(NEXT_VALUES, 0, channels, TargetKind.REGRESSION, config.next_value_weight))
    extra: list[StepTargets] = []
    for wanted in (o for o in config.outcomes if o.weight > 0):
        begin = groups[-1].end if groups else 0
        groups.append(AuxiliaryGroup(wanted.outcome, begin, begin + 1, wanted.kind, wanted.weight))
        task = wanted.task
        label = step_labels(encoded.step_offsets, encoded.time_min, outcomes[wanted.outcome], task)
        mean, scale = target_scale(label, encoded, task)
        _check_outcome(label, wanted.outcome, wanted.kind)
        extra.append(make_targets((label - mean) / scale, encoded, task, replication=replication))
    if not groups:
        return None
    targets = new_targets(len(encoded.time_min), groups[-1].end, folder / "auxiliary")
    if channels:
        reader = ValueReader.of(encoding)
        for begin, end, value, observed in reader.following(encoded):
            targets.value[begin:end, :channels] = np.where(observed, value, 0.0)
            targets.weight[begin:end, :channels] = observed
    for column, found in enumerate(extra, start=channels):
        targets.value[:, column], targets.weight[:, column] = found.value[:, 0], found.weight[:, 0]
    return AuxiliaryTargets(tuple(groups), flushed(targets))


@dataclass(frozen=True)
class ValueReader:
    """Reads the values and masks of all channels back out of encoded features.

    Args:
        channels: number of channels.
        per_channel: number of features of one channel.
        value: place of the last value among them.
        mask: place of the mask.
    """

    channels: int
    per_channel: int
    value: int
    mask: int

    @classmethod
    def of(cls, encoding: Encoding) -> ValueReader:
        """The places in this encoding.

        Raises:
            ConfigError: if the encoding has no channel, or lacks value or mask.
        """
        features = encoding.channels.features
        if not encoding.channels.names or not {Feature.VALUE, Feature.MASK} <= set(features):
            raise ConfigError(
                f"encoding.features must hold value and mask where values are forecast, got {', '.join(features)}; add "
                "them, or set the weights of values in training.auxiliary and pretraining to 0"
            )
        places = (features.index(feature) for feature in (Feature.VALUE, Feature.MASK))
        return cls(len(encoding.channels.names), len(features), *places)

    def read(self, encoded: Encoded, begin: int, end: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Standardised last values, and whether they are the step's own, of these steps: (end - begin, channels)."""
        rows = read_rows(encoded.features, begin, end)[:, : self.channels * self.per_channel]
        by_channel = rows.reshape(len(rows), self.channels, self.per_channel)
        return by_channel[:, :, self.value], by_channel[:, :, self.mask] > 0

    def following(self, encoded: Encoded) -> Iterator[tuple[int, int, NDArray[Any], NDArray[np.bool_]]]:
        """Blocks of steps `begin, end` with what each one's next step in the same stay observes."""
        steps = len(encoded.time_min)
        ends = np.zeros(steps, dtype=bool)
        ends[encoded.step_offsets[1:] - 1] = True
        for begin, end in blocks(steps):
            value, observed = self.read(encoded, begin, min(end + 1, steps))
            if end == steps:  # the last step of all has none after it
                value, observed = (np.concatenate([a, a[-1:]]) for a in (value, observed))
            yield begin, end, value[1:], observed[1:] & ~ends[begin:end, None]


def blocks(steps: int) -> Iterator[tuple[int, int]]:
    """Consecutive time steps `begin, end`, few enough to be held in memory."""
    return ((begin, min(begin + _STEPS_AT_ONCE, steps)) for begin in range(0, steps, _STEPS_AT_ONCE))


def new_targets(steps: int, columns: int, path: Path) -> StepTargets:
    """Targets to be filled in, in two files whose names begin with `path`."""
    value, weight = (
        open_memmap(path.with_name(f"{path.name}-{what}.npy"), "w+", np.dtype(np.float32), (steps, columns))
        for what in ("value", "weight")
    )
    return StepTargets(value, weight)


def flushed(targets: StepTargets) -> StepTargets:
    """The same targets, written and mapped for reading alone."""
    mapped = []
    for array in (targets.value, targets.weight):
        array.flush()  # type: ignore[attr-defined]
        mapped.append(np.load(array.filename, mmap_mode="r"))  # type: ignore[attr-defined]
    return StepTargets(*mapped)


def _check_outcome(label: NDArray[Any], name: str, kind: TargetKind) -> None:
    known = label[~np.isnan(label)]
    if not len(known):
        raise DataError(
            f"training.auxiliary.outcomes must be known for some training stay, got none for {name!r}; drop it"
        )
    if kind is TargetKind.BINARY and not np.isin(known, (0, 1)).all():
        raise DataError(f"outcome {name!r} must have the values 0 and 1 to be binary, got others; set kind regression")
