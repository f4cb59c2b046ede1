"""Speed and memory of encoding: whole cohorts at once, one whole stay, and one step of a live stay.

    python benchmarks/encoding.py --data FOLDER     # the 4,000 stays of Challenge 2012's set a
    python benchmarks/encoding.py                   # generated stays of about the same size

Prints one JSON object: seconds and time steps a second for each grid, microseconds a live step early and late in a
long stay, bytes of a live state, and the largest difference between the two ways to encode.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from models.channels import StaticVariable
from models.encoding import Encoding, EncodingConfig
from models.folding import fold, steps_of
from models.grid import GridKind
from models.intake import Columns, build_stays
from models.stay import Stays

CHANNELS = tuple(f"channel_{i}" for i in range(37))
AGE = StaticVariable("age", unit="a")


def generated(stays: int, minutes: int, observations: int, seed: int = 0) -> Stays:
    """Stays with `observations` each at random minutes, six channels at a minute."""
    rng = np.random.default_rng(seed)
    moments = max(observations // 6, 1)
    minute = np.repeat(rng.integers(0, minutes, (stays, moments)), 6, axis=1).ravel()
    return build_stays(
        stay_id=[str(i) for i in range(stays)],
        end_min=np.full(stays, minutes, dtype=np.int64),
        columns=Columns(
            stay=np.repeat(np.arange(stays, dtype=np.int64), moments * 6),
            time_min=minute.astype(np.int64),
            channel=rng.integers(0, len(CHANNELS), len(minute)).astype(np.int16),
            value=rng.lognormal(3, 0.5, len(minute)),
        ),
        channels=CHANNELS,
        static=rng.uniform(20, 90, (stays, 1)),
        static_names=("age",),
    )[0]


def challenge(data: Path) -> tuple[Stays, tuple[StaticVariable, ...]]:
    """Challenge 2012's set a, which needs the pipelines' packages."""
    from pipelines.sources import challenge2012

    cohort = challenge2012.read([data / "challenge2012" / "set-a.tar.xz"])
    return cohort.stays, cohort.statics


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """The result and the seconds of the fastest run."""
    best, result = float("inf"), None
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - began)
    return result, best


def cohort_figures(stays: Stays, statics: tuple[StaticVariable, ...], kind: GridKind) -> dict[str, Any]:
    """Fitting and encoding of all stays, and agreement of the two ways on the first 50."""
    config = EncodingConfig(grid=kind)
    encoding, fit_s = timed(lambda: Encoding.fit(stays, config, statics=statics), repeats=1)
    encoded, encode_s = timed(lambda: encoding.encode(stays), repeats=1)
    steps = len(encoded.features)
    features = encoded.features.nbytes
    del encoded
    each = [stays.select([i]) for i in range(min(50, len(stays)))]
    _, one_s = timed(lambda: [encoding.encode(one) for one in each])
    differences = [
        np.abs(fold(encoding, one).features - encoding.encode(one, dtype=np.float64).features).max() for one in each
    ]
    return {
        "stays": len(stays),
        "observations": len(stays.value),
        "steps": steps,
        "width": encoding.width,
        "features_mib": round(features / 2**20),
        "fit_s": round(fit_s, 2),
        "encode_s": round(encode_s, 2),
        "steps_per_s": round(steps / encode_s),
        "one_stay_ms": round(one_s / len(each) * 1e3, 3),
        "stepped_against_whole": float(max(differences)),
    }


def live_figures() -> dict[str, Any]:
    """Cost of a live step near the beginning and near the end of a stay of 2,000 steps."""
    stays = generated(1, 100_000, 12_000)
    encoding = Encoding.fit(stays, EncodingConfig(min_stays=1), statics=(AGE,))
    state, spent = encoding.start(stays), []
    for step in steps_of(encoding, stays):
        began = time.perf_counter()
        _, state = encoding.step(state, step.time_min, step.channel, step.value)
        spent.append((time.perf_counter() - began) * 1e6)
    return {
        "channels": len(encoding.channels.names),
        "step_us_early": round(float(np.median(spent[10:210])), 1),
        "step_us_late": round(float(np.median(spent[-200:])), 1),
        "state_bytes": len(state.to_bytes()),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the open data; without it stays are generated")
    data = parser.parse_args().data
    stays, statics = challenge(data) if data else (generated(4000, 2880, 420), (AGE,))
    figures: dict[str, Any] = {"machine": machine(), "live": live_figures()}
    for kind in GridKind:
        figures[str(kind)] = cohort_figures(stays, statics, kind)
    figures["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
