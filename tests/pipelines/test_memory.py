"""Memory of training does not grow with the length of the stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"


def above_idle_mb(steps: int) -> float:
    done = subprocess.run(
        [sys.executable, str(_BENCHMARK), str(steps)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return float(json.loads(done.stdout)["above_idle_mb"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="private memory is read from Linux's /proc")
def test_stays_a_hundred_times_longer_need_at_most_20_mebibytes_more() -> None:
    short, long = above_idle_mb(640), above_idle_mb(64_000)
    assert 1 < short < 60
    assert long - short <= 20
