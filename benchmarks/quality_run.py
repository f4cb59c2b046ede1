"""A division of stays and a configuration in, one real training, and every model's figures on the judged stays out."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from divisions import Division
from judged import Contender, differences, figures, mean_of_folds, pooled, read_last_steps, write_last_steps
from tree_search import Found, search, searched_trees

from models.artifact import load_artifact
from models.record import to_plain
from pipelines.baselines import LINEAR, TREES, BaselineScores
from pipelines.combined import NETWORKS_ALONE, SINGLE_NETWORK, MemberLogits, members_alone
from pipelines.comparison import compared
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.held_folder import private_folder
from pipelines.part_data import Dataset
from pipelines.score_cohort import labelled_scores
from pipelines.split import Part
from pipelines.thresholds import choose_thresholds
from pipelines.train import TrainedRun, train

SERVED, SEARCHED = "served", "lightgbm, searched"
PAIRS = [(ours, theirs) for ours in (SERVED, NETWORKS_ALONE, SINGLE_NETWORK) for theirs in (TREES, SEARCHED, LINEAR)]


@dataclass(frozen=True)
class Run:
    """One row: a training and what stands beside it.

    Args:
        division: which stays are learnt from and judged.
        config: of the training, its seed and its split's key among it.
        trials: of the search for the trees' settings; 0: none.
        folder: where everything is kept.
    """

    division: Division
    config: RunConfig
    trials: int
    folder: Path

    @property
    def identity(self) -> str:
        """Names all that decides the row, but for the program."""
        return _digest([self.division_facts, to_plain(self.config), self.trials])

    @property
    def search_identity(self) -> str:
        """Names all that decides the search: one serves every seed."""
        return _digest([self.division_facts, to_plain(replace(self.config, seed=0)), self.trials])

    @property
    def division_facts(self) -> list[Any]:
        """Which stays."""
        division = self.division
        judged = None if division.judge is None else _stays(division.judge)
        return [division.whole.fingerprint, _stays(division.learn), judged]

    @property
    def title(self) -> str:
        """Begins the run's progress lines."""
        return f"{self.division.name}, seed {self.config.seed}"

    @property
    def search_file(self) -> Path:
        """Receives the search's result."""
        return self.folder / "searches" / f"{self.search_identity}.json"

    @property
    def scores_file(self) -> Path:
        """Receives a fold's scores, to be judged with those of the other folds."""
        return self.folder / "scores" / f"{self.identity}.npz"


def search_trees(run: Run) -> None:
    """Searches the trees' settings of a run, and keeps them."""
    with private_folder(run.folder, "searching-") as encoded:
        found = search(_dataset(run, encoded), run.config, run.trials, title=run.division.name)
    run.search_file.parent.mkdir(parents=True, exist_ok=True)
    beside = run.search_file.with_suffix(".part")
    beside.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    beside.replace(run.search_file)


def train_and_judge(run: Run) -> dict[str, Any]:
    """Trains, scores the judged stays with every model, and returns the row."""
    say = _sayer(run.title)
    with private_folder(run.folder, "training-") as work:
        began = time.perf_counter()
        # Beside the judged stays' baselines those of the training's own hold-out would be fitted for nothing.
        alone = replace(run.config, baselines=replace(run.config.baselines, enabled=False))
        trained = train([run.division.learnt], alone, folder=work, progress=False, say=say)
        seconds = time.perf_counter() - began
        say(f"trained in {seconds:.0f} s; scoring the judged stays")
        encoded = work / "judged"
        encoded.mkdir()
        data = _dataset(run, encoded)
        contenders = _contenders(run, trained, data)
    if run.division.fold_of:
        write_last_steps(contenders, run.scores_file)
    parts = {str(part): len(found.index) for part, found in data.parts.items()}
    row = _row(run, run.division.name, contenders) | {"identity": run.identity, "seconds": seconds, "parts": parts}
    return row | ({"search": to_plain(_found(run))} if run.trials else {})


def judge_folds(runs: list[Run]) -> list[dict[str, Any]]:
    """The rows of all folds of a division, from what `train_and_judge` kept of each: pooled, and averaged."""
    folds = [read_last_steps(run.scores_file) for run in runs]
    config, what, names = runs[0].config, runs[0].division.fold_of, [run.identity for run in runs]
    together = {name: pooled([fold[name] for fold in folds]) for name in folds[0]}
    apart = mean_of_folds(folds, PAIRS, config.task, config.evaluation.resampling)
    return [
        _row(runs[0], f"{what}, pooled", together) | {"identity": _digest([*names, "pooled"])},
        {"what": f"{what}, mean of the folds", "seed": config.seed, "identity": _digest([*names, "mean"])} | apart,
    ]


def _row(run: Run, what: str, contenders: dict[str, Contender]) -> dict[str, Any]:
    task, settings = run.config.task, run.config.evaluation
    return {
        "what": what,
        "seed": run.config.seed,
        "models": {name: figures(contender, task, settings) for name, contender in contenders.items()},
        "differences": differences(contenders, PAIRS, task, settings.resampling),
    }


def _contenders(run: Run, trained: TrainedRun, data: Dataset) -> dict[str, Contender]:
    task, config, whole = run.config.task, run.config, run.division.whole
    if to_plain(data.encoding) != to_plain(trained.bundle.encoding):
        raise RuntimeError("the judged stays must be encoded as the training encoded, got another encoding")
    # The served model as anybody would load it; the others from what the training left in memory.
    scorer = load_artifact(trained.artifact)
    served = labelled_scores(scorer, whole, data.parts[Part.TEST].index)
    contenders = {SERVED: Contender.of(served, scorer.bundle.thresholds, task)}
    members = trained.members
    beside: dict[str, BaselineScores] = members_alone(members, MemberLogits.of(members, data), data, config)
    beside |= compared(whole, data, config)
    if run.trials:
        beside[SEARCHED] = searched_trees(data, config, _found(run))
    for name, scores in beside.items():
        contenders[name] = Contender.of(scores.test, choose_thresholds(scores.calibration, task), task)
    return contenders


def _dataset(run: Run, encoded: Path) -> Dataset:
    """The run's parts, with the judged stays as the hold-out."""
    indices = run.division.parts(run.config)
    return build_dataset(run.division.whole, run.config, encoded, say=lambda _: None, indices=indices)


def _found(run: Run) -> Found:
    return Found(**json.loads(run.search_file.read_text(encoding="utf-8")))


def _sayer(title: str) -> Any:
    return lambda line: print(f"{title}: {line.strip()}", file=sys.stderr, flush=True)


def _stays(index: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(index, dtype="<i8").data).hexdigest()


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
