"""A candidate and the champion of any kind of model of documents in, the verdict of their gate out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def compared(
    metric: str, *, same: bool, does: str, differ: str, margin: float, difference: Callable[[], Mapping[str, float]]
) -> list[GateCheck]:
    """Checks of a candidate against the champion: the same labels, and then a difference that is not too bad.

    Args:
        metric: what is compared.
        same: whether both answer the same question.
        does: what both do with labels, in words.
        differ: what differs where they do not.
        margin: least lower bound of the difference, candidate less champion.
        difference: gives `value`, `low` and `high`; asked for only where both are the same.
    """
    note = "" if same else f"{differ}; register it under another name"
    check = GateCheck("same_task", same, float(same), f"candidate and champion {does} the same labels", note)
    if not same:
        return [check]
    found = difference()
    told = f"difference {found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
    low = found["low"]
    return [check, GateCheck(f"{metric}_difference_low", low >= margin, low, f"at least {margin:g}", told)]
