"""Encoded parts in, the fitted members of a model out: its networks one after another, then its boosted trees.

A run that was interrupted goes on at the member that it had reached; members that were done are read back.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from models.ensemble import Ensemble, Member, MemberSpec
from models.network import Reads
from models.trees import TreeMember
from pipelines.checkpoints import RunFolder
from pipelines.config import RunConfig
from pipelines.epochs import OnEpoch
from pipelines.fit import FitResult, Launch, fit_network, stop_if_asked, stoppable
from pipelines.held_folder import private_folder, remove_left
from pipelines.part_data import Dataset
from pipelines.pretrain import pretrain
from pipelines.split import Part
from pipelines.tree_member import fit_trees
from pipelines.validation import Measure

Say = Callable[[str], None]
# Begins the names of folders that hold what a member is shown.
SHOWN = "shown-"


@dataclass(frozen=True)
class Members:
    """The fitted members of a model.

    Args:
        ensemble: all of them, as they are served.
        specs: what each is, in the same order: networks first, trees last.
        fits: what the training loop left, of every network.
    """

    ensemble: Ensemble
    specs: tuple[MemberSpec, ...]
    fits: tuple[FitResult, ...]

    @property
    def trees(self) -> tuple[TreeMember, ...]:
        """The members that are boosted trees."""
        return tuple(member for member in self.ensemble if isinstance(member, TreeMember))

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch of every network: `FitResult.history`, with the `member`'s number."""
        return [{"member": k, **row} for k, fit in enumerate(self.fits) for row in fit.history]


def fit_members(
    data: Dataset,
    config: RunConfig,
    *,
    folder: Path,
    resume: bool = False,
    progress: bool = False,
    say: Say = lambda _: None,
    on_epoch: OnEpoch | None = None,
    launch: Launch | None = None,
) -> Members:
    """Fits every member on the training part.

    Args:
        data: the encoded parts.
        config: the run's configuration.
        folder: where checkpoints go, in a folder a member.
        resume: continue at the member whose training was interrupted; members that were done are read back.
        progress: show a progress bar on standard error.
        say: receives lines for people.
        on_epoch: receives every epoch's row with the `member`'s number, as soon as it is known.
        launch: how the training processes are started; on this machine where left out.

    Raises:
        Interrupted: if SIGTERM came; the checkpoints are in the folder.
        SequelaError: as `fit_network` and `fit_trees` do.
    """
    files = RunFolder(folder)
    if not resume:
        for left in folder.glob("member-*"):
            shutil.rmtree(left)
    folder.mkdir(parents=True, exist_ok=True)
    # Features are patient data: what a killed run left goes, whether or not this one has folds.
    remove_left(folder, SHOWN)
    files.stop.unlink(missing_ok=True)
    specs = config.ensemble.specs(config.network, config.seed)
    fits: list[FitResult] = []
    members: list[Member] = []
    # A signal between two members must not be lost: the next one would train to its end.
    with stoppable(files):
        for number, spec in enumerate(specs):
            with _shown(data, spec, folder) as shown:
                if spec.network is None:
                    members.append(fit_trees(shown, config) if data.parent is None else data.parent.member(number))
                    say(_trees_line(spec, kept=data.parent is not None))
                else:
                    fit = fit_member(
                        shown, config, number, folder, resume=resume, progress=progress, each=on_epoch, launch=launch
                    )
                    fits.append(fit)
                    members.append(fit.network)
                    say(_line(number, config, fit))
            stop_if_asked(files)
    return Members(Ensemble(members, [spec.weight for spec in specs]), specs, tuple(fits))


@contextlib.contextmanager
def _shown(data: Dataset, spec: MemberSpec, folder: Path) -> Iterator[Dataset]:
    """What a member is shown: all, or all but its fold, in files that do not outlive it."""
    if spec.fold is None:
        yield data
        return
    with private_folder(folder, SHOWN) as private:
        yield data.without_fold(spec.fold, private)


def fit_member(
    data: Dataset,
    config: RunConfig,
    number: int,
    folder: Path,
    *,
    resume: bool = False,
    progress: bool = False,
    each: OnEpoch | None = None,
    measure: Measure | None = None,
    launch: Launch | None = None,
) -> FitResult:
    """Fits one network of the ensemble, pre-trained where that is asked for; the arguments are `fit_network`'s."""
    spec = config.ensemble.specs(config.network, config.seed)[number]
    train, validation = data.saw("network", data.parts[Part.TRAIN]), data.saw("best_epoch", data.parts[Part.VALIDATION])
    initial = _start(data, config, number, folder, resume=resume, progress=progress)
    return fit_network(
        train=(train.encoded, train.targets),
        validation=(validation.encoded, validation.targets),
        network=spec.network or config.network,
        notes=config.notes if data.tokenizer is not None else None,
        vocabulary_size=data.tokenizer.vocabulary_size if data.tokenizer is not None else 0,
        task=config.task,
        training=config.ensemble.training(config.training, number),
        seed=spec.seed,
        folder=folder / f"member-{number}",
        resume=resume,
        progress=progress,
        on_epoch=None if each is None else lambda row: each({"member": number, **row}),
        title=_title(number, config),
        initial=initial,
        auxiliary=data.auxiliary,
        measure=measure,
        launch=launch,
    )


def _start(
    data: Dataset, config: RunConfig, number: int, folder: Path, *, resume: bool, progress: bool
) -> dict[str, Tensor] | None:
    """Weights from which a network starts: a parent's, or pre-trained ones; None without either."""
    if data.parent is not None:
        return data.parent.weights(number)
    spec = config.ensemble.specs(config.network, config.seed)[number]
    # What is learnt beforehand are values, and a network that reads notes alone would have to guess them.
    if not config.pretraining.epochs or (spec.network is not None and spec.network.reads is Reads.NOTES):
        return None
    train = data.saw("pretraining", data.parts[Part.TRAIN])
    return pretrain(
        train.stays,
        train.encoded,
        data.encoding,
        tokenizer=data.tokenizer,
        network=spec.network or config.network,
        notes=config.notes if data.tokenizer is not None else None,
        config=config.pretraining,
        training=config.ensemble.training(config.training, number),
        seed=spec.seed,
        folder=folder / f"member-{number}" / "pretraining",
        resume=resume,
        progress=progress,
        title=f"{_title(number, config)} pre-training".strip(),
    ).weights


def _trees_line(spec: MemberSpec, *, kept: bool) -> str:
    fold = "" if spec.fold is None else f" without fold {spec.fold}"
    return "  kept the parent's boosted trees" if kept else f"  fitted the boosted trees{fold}"


def _title(number: int, config: RunConfig) -> str:
    return f"member {number + 1}/{config.ensemble.members}" if config.ensemble.members > 1 else ""


def _line(number: int, config: RunConfig, fit: FitResult) -> str:
    what = _title(number, config) or "network"
    return f"  {what}: trained {len(fit.history)} epochs in {fit.seconds:.0f} s, best epoch {fit.best_epoch + 1}"
