"""Observations of files in, batch by batch; the columns of stays out, in another order of the stays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.intake import Columns
from models.stay import Floats, Ints


class Gathered:
    """What was observed so far; a file is a stay, and files are numbered in the order of reading."""

    def __init__(self) -> None:
        self.file: list[str] = []
        self._stay: list[NDArray[np.int32]] = []
        self._time_min: list[NDArray[np.int32]] = []
        self._channel: list[NDArray[np.int16]] = []
        self._value: list[Floats] = []

    def add(
        self, files: Iterable[str], *, file: Ints, time_min: Ints, channel: NDArray[np.int16], value: Floats
    ) -> None:
        """Adds a batch.

        Args:
            files: names of its files, for messages.
            file: (m,) index into `files`.
            time_min: (m,) minutes since admission.
            channel: (m,) index of the channel.
            value: (m,) in the channel's canonical unit.
        """
        self._stay.append((file + len(self.file)).astype(np.int32))
        self._time_min.append(time_min.astype(np.int32))
        self._channel.append(channel)
        self._value.append(value)
        self.file.extend(files)

    def columns(self, order: Ints) -> Columns:
        """All observations, once: the pieces are given up, so that memory holds the cohort once.

        Args:
            order: (stays,) which file is the first stay, the second and so on.
        """
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        return Columns(
            stay=rank[_joined(self._stay)],
            time_min=_joined(self._time_min).astype(np.int64),
            channel=_joined(self._channel),
            value=_joined(self._value),
        )


def _joined(pieces: list[Any]) -> NDArray[Any]:
    joined = np.concatenate(pieces)
    pieces.clear()
    return joined
