"""Discrimination and calibration on stays that were never seen: the README's table of results, a row a run.

    python benchmarks/quality.py mortality --data FOLDER --seeds 1 2 3 4 5    # Challenge 2012: a to b, and b to a
    python benchmarks/quality.py mortality --search-trials 40                 # LightGBM with a search of its own
    python benchmarks/quality.py mortality --both                             # a and b: every fold of their patients
    python benchmarks/quality.py sepsis --keys one two                        # Challenge 2019 A: held-out patients
    python benchmarks/quality.py sepsis --shift                               # from one type of unit to the other
    python benchmarks/quality.py sepsis --set training.max_epochs=2           # any key of the configuration

Every row is a real training (`pipelines.train`) on the stays that it learns from, in a process of this command. The
served model is then read from its artifact and scores all judged stays; its networks alone, one network, a logistic
regression and LightGBM, fitted and calibrated on the same parts of the same stays, score them too. Thresholds are
chosen on the calibration part of the stays learnt from. Intervals draw patients; differences meet both models with the
same draws. `seconds` is the wall time of `pipelines.train.train` without baselines; of the row `sequela train a b`, of
the whole process with them.

Results are kept after every row. `--resume` takes rows and searches that are there already: they are known by stays and
configuration, not by the program that made them, so begin anew after a change to it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from divisions import Division, across_units, both_ways, held_out, in_folds, prepared
from machine import machine
from quality_run import Run, judge_folds, search_trees, train_and_judge
from quality_table import line, markdown, summary

from models.errors import SequelaError
from models.record import to_plain
from models.task import TargetKind
from pipelines.config import RunConfig, load_config

CONFIGS = {"mortality": Path("configs/mortality-2012.toml"), "sepsis": Path("configs/sepsis-2019.toml")}
COHORTS = {"mortality": ("2012a", "2012b"), "sepsis": ("2019a",)}


class Results:
    """The rows so far, in one JSON file with its table beside it.

    Args:
        path: the file.
        facts: what holds for all rows; rows of other facts are never mixed with these.
        resume: begin with the rows that the file holds.
    """

    def __init__(self, path: Path, facts: dict[str, Any], *, resume: bool) -> None:
        self.path, self.facts = path, json.loads(json.dumps(facts))
        self.rows: list[dict[str, Any]] = []
        if resume and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if any(kept.get(name) != value for name, value in self.facts.items()):
                raise SystemExit(
                    f"{path} must hold rows of this configuration and machine, got others; name another --out"
                )
            self.rows = kept["rows"]

    def __contains__(self, identity: str) -> bool:
        return any(row["identity"] == identity for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Keeps a row, on disk too."""
        self.rows = [*(r for r in self.rows if r["identity"] != row["identity"]), row]
        beside = self.path.with_suffix(".part")
        text = {**self.facts, "summary": self.summary, "rows": self.rows}
        beside.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
        beside.replace(self.path)
        self.path.with_suffix(".md").write_text(markdown(self.summary), encoding="utf-8")

    @property
    def summary(self) -> list[dict[str, Any]]:
        """Every division over its seeds; single folds stand in the rows alone."""
        return summary([row for row in self.rows if "models" in row and not row.get("fold_of")])


def main() -> None:
    args = _arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    config = _config(args)
    cohorts = prepared(args.folder, args.data, COHORTS[args.task])
    facts = {"machine": machine(), "jobs": args.jobs, "config": to_plain(replace(config, seed=0))}
    results = Results(args.out or args.folder / f"{_name(args)}.json", facts, resume=args.resume)
    runs = [
        Run(division, _keyed(config, key, seed), args.search_trials, args.folder)
        for key, divisions in _divisions(args, cohorts, config)
        for division, seed in itertools.product(divisions, args.seeds)
    ]
    waiting = [run for run in runs if run.identity not in results or not _scores_kept(run)]
    _search(waiting, args)
    for run, row in _each(train_and_judge, waiting, args.jobs):
        results.add(row | {"fold_of": run.division.fold_of})
        _say(f"{run.title}: {row['seconds']:.0f} s  {line(row)}")
    for seed in args.seeds if args.both else ():
        for row in judge_folds([run for run in runs if run.config.seed == seed]):
            results.add(row)
    if args.both:
        _time_whole(args, cohorts, results)
    print(markdown(results.summary))
    _say(f"rows and table: {results.path}, {results.path.with_suffix('.md')}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(CONFIGS))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEQUELA_DATA", "data")))
    parser.add_argument("--config", type=Path, help="default: the task's in configs/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, repeatable")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--search-trials", type=int, default=0, help="configurations of LightGBM to try")
    parser.add_argument("--both", action="store_true", help="a and b together, fold by fold (mortality)")
    parser.add_argument("--folds", type=int, default=5, help="of --both")
    parser.add_argument("--keys", nargs="+", default=[], help="other splits of the patients (sepsis)")
    parser.add_argument("--shift", action="store_true", help="from one type of unit to the other (sepsis)")
    parser.add_argument(
        "--holdout-share",
        type=float,
        metavar="SHARE",
        help="leave the training's own hold-out only so many patients and learn from the rest, where others are judged",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes; seconds are those under this load")
    parser.add_argument("--resume", action="store_true", help="take rows that are there already")
    parser.add_argument("--folder", type=Path, default=Path("work/quality"))
    parser.add_argument("--out", type=Path, help="JSON file; the table goes beside it as Markdown")
    args = parser.parse_args()
    _check(parser, args)
    return args


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.task == "mortality" and (args.keys or args.shift):
        parser.error("--keys and --shift must go with sepsis, got mortality; drop them")
    if args.task == "sepsis" and args.both:
        parser.error("--both must go with mortality, got sepsis; drop it")
    if args.keys and args.shift:
        parser.error("--keys must go without --shift, which judges no hold-out; drop one of them")
    if args.holdout_share is not None and args.task == "sepsis" and not args.shift:
        parser.error("--holdout-share must go with mortality or --shift: elsewhere the hold-out is judged; drop it")
    if min(args.folds, 2 * args.jobs) < 2 or args.search_trials < 0:
        parser.error("--folds must be at least 2, --jobs at least 1 and --search-trials at least 0")


def _config(args: argparse.Namespace) -> RunConfig:
    config = load_config(args.config or CONFIGS[args.task], args.set)
    if config.task.kind is not TargetKind.BINARY or config.task.outputs > 1:
        raise SystemExit("task must have one binary output, got another; name another --config")
    if args.holdout_share is None:
        return config
    gained = config.split.test - args.holdout_share
    split = replace(config.split, train=config.split.train + gained, test=args.holdout_share)
    return replace(config, split=split)


def _keyed(config: RunConfig, key: str, seed: int) -> RunConfig:
    return replace(config, seed=seed, split=replace(config.split, key=key))


def _name(args: argparse.Namespace) -> str:
    return f"{args.task}{'-both' if args.both else ''}{'-shift' if args.shift else ''}"


def _divisions(
    args: argparse.Namespace, cohorts: tuple[Path, ...], config: RunConfig
) -> Iterator[tuple[str, list[Division]]]:
    """Divisions of the stays, each with the key of the training's own split."""
    if args.both:
        yield config.split.key, in_folds(cohorts, args.folds, "quality")
    elif args.task == "mortality":
        yield config.split.key, both_ways(*cohorts)
    elif args.shift:
        yield config.split.key, across_units(cohorts)
    else:
        for key in args.keys or [config.split.key]:
            yield key, [held_out(cohorts, key)]


def _scores_kept(run: Run) -> bool:
    """Whether a fold's scores are there too: its row alone cannot be judged with the others."""
    return not run.division.fold_of or run.scores_file.exists()


def _search(runs: list[Run], args: argparse.Namespace) -> None:
    """The searches that these runs need, each once."""
    needed = {run.search_identity: run for run in runs if run.trials}
    missing = [run for run in needed.values() if not (args.resume and run.search_file.exists())]
    for run, _ in _each(search_trees, missing, args.jobs):
        _say(f"{run.division.name}: trees searched, {run.trials} configurations")


def _each(work: Callable[[Run], Any], runs: list[Run], jobs: int) -> Iterator[tuple[Run, Any]]:
    """Results as they come; what fails stops nothing else, so that no result beside it is lost, but the end."""
    failed = []
    for run, result in _started(work, runs, jobs):
        try:
            done = result()
        except SequelaError as error:
            failed.append(f"{run.title}: {error}")
            _say(failed[-1])
        else:
            yield run, done
    if failed:
        raise SystemExit(f"{len(failed)} of {len(runs)} failed: " + "; ".join(failed))


def _started(work: Callable[[Run], Any], runs: list[Run], jobs: int) -> Iterator[tuple[Run, Callable[[], Any]]]:
    """Every run with what gives its result; each as soon as it is there."""
    if jobs == 1:
        yield from ((run, partial(work, run)) for run in runs)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Future[Any], Run] = {pool.submit(work, run): run for run in runs}
        yield from ((running[done], done.result) for done in as_completed(running))


def _time_whole(args: argparse.Namespace, cohorts: tuple[Path, ...], results: Results) -> None:
    """The wall time of `sequela train` on all stays, start of the process and registration among it."""
    command = ["train", *map(str, cohorts), "--config", str(args.config or CONFIGS[args.task]), "--quiet", "--json"]
    overrides = [*args.set, f"seed={args.seeds[0]}", "cache.enabled=false"]
    command += [word for override in overrides for word in ("--set", override)]
    identity = " ".join(command)
    if identity in results:
        return
    _say("sequela train a b: timing the whole process")
    folder = (args.folder / "whole").resolve()
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    began = time.perf_counter()
    process = [sys.executable, "-m", "pipelines", *command, "--folder", str(folder / "work")]
    done = subprocess.run(process, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    seconds = time.perf_counter() - began
    trained = json.loads(done.stdout.splitlines()[-1])
    metrics = {"metrics": trained["metrics"], "baselines": trained["baselines"]}
    results.add({"what": "sequela train a b", "identity": identity, "seconds": seconds, "own_holdout": metrics})
    print(f"sequela train a b: {seconds:.0f} s, the whole process\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
