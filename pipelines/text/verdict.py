"""A candidate and the champion of any kind of model of documents in, the verdict of their gate out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from models.errors import ArtifactError
from pipelines.gate import GateCheck, GateVerdict
from pipelines.registry import ModelVersion, fetch
from pipelines.settings import Settings

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)


class Load(Protocol[M_co]):
    """Reads and verifies an artifact."""

    def __call__(self, folder: Path, /, *, expected_digest: str) -> M_co:
        """The model of a folder, or `ArtifactError`."""
        ...


def verdict(
    candidate: ModelVersion,
    champion: ModelVersion | None,
    settings: Settings,
    *,
    load: Load[M],
    judge: Callable[[M], tuple[GateCheck, Callable[[M], Sequence[GateCheck]]]],
    bound: str,
) -> GateVerdict:
    """The verdict on a candidate; nothing is moved.

    Args:
        candidate: the version that shall be promoted.
        champion: whom it is compared with; None without one.
        settings: where MLflow is.
        load: reads an artifact.
        judge: of the candidate, whether its hold-out is large enough, and what compares it with a champion.
        bound: what must hold of an artifact, in words.

    Raises:
        RefusedError: if the hold-out's documents are not at hand.
        TrackingError: if an artifact cannot be fetched.
    """

    def checked(version: ModelVersion, name: str) -> tuple[M | None, GateCheck]:
        try:
            model = load(fetch(version, settings), expected_digest=version.digest)
        except ArtifactError as error:
            return None, GateCheck(name, False, 0.0, bound, str(error))
        return model, GateCheck(name, True, 1.0, bound)

    address = champion.address if champion else None
    model, sound = checked(candidate, "artifact")
    if model is None:
        return GateVerdict(candidate.address, address, (sound,))
    amount, against = judge(model)
    checks = [sound, amount]
    if champion is not None:
        rival, check = checked(champion, "champion_artifact")
        checks += [check] if rival is None else against(rival)
    return GateVerdict(candidate.address, address, tuple(checks))
