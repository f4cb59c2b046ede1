"""Memory of training does not grow with the length of the stays."""

from __future__ import annotations

import json
import os
import runpy
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


@pytest.mark.parametrize(("given", "code", "told"), [("--help", 0, "usage:"), ("many", 2, "steps"), ("0", 2, "steps")])
def test_the_benchmark_explains_itself_and_refuses_what_is_no_length(
    given: str, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(_BENCHMARK), given])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(_BENCHMARK), run_name="__main__")
    assert ended.value.code == code
    assert told in "".join(capsys.readouterr())
