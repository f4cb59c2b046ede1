"""Discrimination and calibration on stays that were never seen: the README's table of results, a row a run.

    python benchmarks/quality.py mortality --data FOLDER      # Challenge 2012: train on a, test on b, and the reverse
    python benchmarks/quality.py sepsis --data FOLDER         # Challenge 2019 A: held-out patients
    python benchmarks/quality.py sepsis --keys one two        # the same on other splits of the patients

Everything runs through the `sequela` command, as a user would run it; wall times include the start of the
processes. Results are written as JSON to `--out`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine

SHOWN = ("auroc", "auprc", "brier", "calibration_slope", "calibration_intercept", "event1", "event2", "utility")


def sequela(*arguments: str, folder: Path) -> tuple[dict[str, Any], float]:
    """Runs one command; returns its JSON object and its wall time in seconds."""
    began = time.perf_counter()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder.resolve()}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - began


def mortality(data: Path, folder: Path, seeds: list[int], keys: list[str]) -> list[dict[str, Any]]:
    """Challenge 2012, both directions, every seed; the other set is the hold-out, so keys of a split say nothing."""
    if keys:
        raise SystemExit("--keys must go with sepsis, got mortality; drop it")
    source = data / "challenge2012"
    for name in "ab":
        _prepare(
            folder / f"2012{name}",
            "challenge2012",
            str(source / f"set-{name}.tar.xz"),
            "--outcomes",
            str(source / f"Outcomes-{name}.txt"),
            folder=folder,
        )
    rows = []
    for seed in seeds:
        for train, test in ("ab", "ba"):
            trained, seconds = _train(folder, f"2012{train}", "mortality-2012", seed)
            figures, _ = sequela(
                "evaluate",
                trained["model"],
                str(folder / f"2012{test}"),
                "--out",
                str(folder / "eval.json"),
                folder=folder,
            )
            rows.append(_row(f"train {train}, test {test}, seed {seed}", figures["metrics"], seconds))
            rows += [_row(f"  baseline {n}, hold-out of {train}", m, 0.0) for n, m in trained["baselines"].items()]
    return rows


def sepsis(data: Path, folder: Path, seeds: list[int], keys: list[str]) -> list[dict[str, Any]]:
    """Challenge 2019 A: held-out patients, with the baselines on the same ones."""
    _prepare(folder / "2019a", "challenge2019", str(data / "challenge2019" / "training_setA.tar.xz"), folder=folder)
    rows = []
    for seed, key in itertools.product(seeds, keys or ["sepsis-2019"]):
        trained, seconds = _train(folder, "2019a", "sepsis-2019", seed, f"split.key={key}")
        rows.append(_row(f"network, seed {seed}, key {key}", trained["metrics"], seconds))
        rows += [_row(f"  baseline {n}", m, 0.0) for n, m in trained["baselines"].items()]
    return rows


def _prepare(out: Path, source: str, *paths: str, folder: Path) -> None:
    if not out.exists():
        sequela("prepare", source, *paths, "--out", str(out), folder=folder)


def _train(folder: Path, cohort: str, config: str, seed: int, *overrides: str) -> tuple[dict[str, Any], float]:
    work = folder / "-".join(["work", cohort, str(seed), *overrides])
    return sequela(
        "train",
        str(folder / cohort),
        "--config",
        f"configs/{config}.toml",
        "--set",
        f"seed={seed}",
        *(word for override in overrides for word in ("--set", override)),
        "--folder",
        str(work),
        "--quiet",
        folder=folder,
    )


def _row(what: str, metrics: dict[str, Any], seconds: float) -> dict[str, Any]:
    shown = {name: metrics[name] for name in SHOWN if metrics.get(name) is not None}
    text = "  ".join(f"{n} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for n, m in shown.items())
    print(f"{what:<40} {seconds:6.0f} s  {text}", flush=True)
    return {"what": what, "seconds": seconds, "metrics": shown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["mortality", "sepsis"])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEQUELA_DATA", "data")))
    parser.add_argument("--folder", type=Path, default=Path("work/quality"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--keys", nargs="+", default=[], help="other splits of the patients (sepsis)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = {"mortality": mortality, "sepsis": sepsis}[args.task](args.data, args.folder, args.seeds, args.keys)
    out = args.out or args.folder / f"{args.task}.json"
    out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
