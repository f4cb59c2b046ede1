"""`sequela prepare` against a per-file pandas loop over the same archive: seconds of both, and their ratio.

    python benchmarks/prepare.py ARCHIVE [--outcomes FILE] [--source challenge2012] [--repeats 5]

Both are whole processes, imports and decompression included. They take turns, and the best of each counts, for
another process on the machine only ever makes one slower. The loop does less: it reads, and throws away.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine

LOOP = """
import sys, tarfile
import pandas as pd
with tarfile.open(sys.argv[1], "r:*") as archive:
    frames = [pd.read_csv(archive.extractfile(m), sep=sys.argv[2]) for m in archive if m.isfile()]
print(sum(map(len, frames)))
"""
SEPARATORS = {"challenge2012": ",", "challenge2019": "|"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--outcomes", type=Path)
    parser.add_argument("--source", choices=sorted(SEPARATORS), default="challenge2012")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    loop = [sys.executable, "-c", LOOP, str(args.archive), SEPARATORS[args.source]]
    prepare = [sys.executable, "-m", "pipelines", "prepare", args.source, str(args.archive)]
    prepare += ["--outcomes", str(args.outcomes)] if args.outcomes else []
    runs: dict[str, list[tuple[float, float, float]]] = {"pandas_loop": [], "sequela_prepare": []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats):
            runs["pandas_loop"].append(measured(loop))
            runs["sequela_prepare"].append(measured([*prepare, "--out", f"{folder}/{repeat}"]))
    names = ("wall_s", "cpu_s", "peak_mib")
    best = {name: map(min, zip(*rows, strict=True)) for name, rows in runs.items()}
    figures = {name: dict(zip(names, values, strict=True)) for name, values in best.items()}
    ratio = {key: figures["sequela_prepare"][key] / figures["pandas_loop"][key] for key in ("wall_s", "cpu_s")}
    print(json.dumps({"machine": machine(), "archive": args.archive.name, **figures, "ratio": ratio}, indent=1))


def measured(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident MiB of one process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    process.returncode = 0
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
