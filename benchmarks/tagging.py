"""Exact-span F1 of taggers on held-out documents, beside a dictionary and a linear chain, over several seeds.

    python benchmarks/tagging.py bc5cdr --data DIR --seeds 1 2 3
    python benchmarks/tagging.py crner --data DIR --seeds 1 2 3 4 5

`bc5cdr` trains on its train part and is judged on its devel part, which decides nothing. `crner` and `rrner` have no
part of their own: a fifth of the reports is held out, another one for every seed. A line a seed, and their mean;
intervals are over draws of groups of the held-out documents.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipelines.text.sources import bc5cdr, jmed
from pipelines.text.tagging_config import TaggingRunConfig, load_tagging_config
from pipelines.text.tagging_train import train_tagger

CONFIGS = Path(__file__).parents[1] / "configs"
SETS = {
    "bc5cdr": (bc5cdr.read, "notes-en/bc5cdr.tar.xz", "chemicals-diseases-en.toml"),
    "crner": (jmed.read, "notes-ja/crner.csv.xz", "findings-ja.toml"),
    "rrner": (jmed.read, "notes-ja/rrner.csv.xz", "findings-ja.toml"),
}


def seeded(config: TaggingRunConfig, seed: int) -> TaggingRunConfig:
    """The run of another seed; where the source names no part, of another hold-out too."""
    split = config.split if config.held_out else replace(config.split, key=f"{config.split.key}-{seed}")
    return replace(config, seed=seed, split=split)


def shown(figures: dict[str, Any], name: str) -> str:
    """A figure with its interval."""
    entry = figures[name]
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def judge(name: str, data: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Trains and judges one seed, and prints it."""
    read, file, config_file = SETS[name]
    config = seeded(load_tagging_config(CONFIGS / config_file, overrides), seed)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = train_tagger(
            read([data / file]),
            config,
            folder=Path(folder),
            say=print,
            on_epoch=lambda row: print(f"  {row}", flush=True),
        )
    metrics = run.figures["metrics"]
    print(f"seed {seed}: {run.figures['documents']} documents, {run.figures['spans']} spans held out")
    for figure in ("f1", "precision", "recall", *(f"f1_{label}" for label in config.task.labels), "ece"):
        if figure in metrics:
            print(f"  {figure} {shown(metrics, figure)}")
    for rival, figures in run.figures.get("rivals", {}).items():
        print(
            f"  {rival}: f1 {shown(figures['metrics'], 'f1')}, ours less its own {shown(figures['difference'], 'f1')}"
        )
    print(f"  {time.process_time() - began:.0f} s of one core", flush=True)
    return run.figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set-key", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = [judge(args.set, args.data, seed, args.set_key) for seed in args.seeds]
    values = [figures["metrics"]["f1"]["value"] for figures in found]
    mean, low, high = sum(values) / len(values), min(values), max(values)
    print(f"{args.set}: f1 {mean:.3f} (mean of {len(values)} seeds, {low:.3f} to {high:.3f})")
    for rival in found[0].get("rivals", {}):
        theirs = [figures["rivals"][rival]["metrics"]["f1"]["value"] for figures in found]
        print(f"  {rival}: f1 {sum(theirs) / len(theirs):.3f}")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
