"""How near the service comes to an empty endpoint, against what people run instead, every answer checked.

    python benchmarks/serving.py                                    # a 2 x 128 LSTM with random weights
    python benchmarks/serving.py --artifact FOLDER --out serving.json    # and a trained model, such as the champion
    python benchmarks/serving.py --without crash swap engine peers  # throughput, latency, growth and start alone

The server has one core and the load another. In every round each contender is loaded for some seconds, one right after
the other, and ratios are taken within a round; the figure is their median. A closed loop gives throughput; open loops
with Poisson and bursty arrivals at 70 % of a contender's own peak give percentiles, counted from the moment at which a
request was due. `of_noop` compares with the empty endpoint that FastAPI handles, `of_lean_noop` with the one that reads
and validates in the service's own, cheaper way; `cpu_us` is the server's processor time an answer, whose ratio other
work on the machine disturbs less. Prints one JSON object that also holds the figures of `engine.py`, `crash.py`,
`swap.py` and, with a GPU, `engine_gpu.py`; `lines` names what the service has to show, line by line. Without the crash
test it takes about a quarter of an hour a model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from machine import machine
from serving_cohort import LiveStay, Window, live_stays, save_network, windows
from serving_lines import growth, line_figures, other, starts
from serving_load import closed_loop, gamma, open_loop, poisson
from serving_peers import save_mlflow, serve_mlflow
from serving_run import Server, Steps, Windows, checked, cores, end, server_command, started, wait_until_ready
from serving_server import LEAN, STEP, TYPED, WINDOW

from models.artifact import load_artifact
from models.grid import GridKind
from service.keys import Scope, make_key, write_keys

CONNECTIONS = (1, 16, 64)
OPEN_SHARE = 0.7
WARM_UP_S = 0.5
STAYS, STEPS, WINDOWS = 12, 100, 24
PARTS = ("lstm", "open", "growth", "start", "peers", "engine", "crash", "swap", "gpu")
Makes = dict[str, Callable[[int], Steps | Windows]]


class Bench:
    """Contenders of one model.

    Args:
        artifact: the model's folder.
        folder: where logs, keys and stores go.
        seconds: of one loop.
        rounds: how often each contender is loaded.
        without: parts that are left out.
    """

    def __init__(
        self, artifact: Path, folder: Path, *, seconds: float, rounds: int, without: frozenset[str] = frozenset()
    ) -> None:
        self._without = without
        self._artifact, self._folder, self._seconds, self._rounds = artifact, folder, seconds, rounds
        self._scorer = load_artifact(artifact)
        self._stays: list[LiveStay] = live_stays(self._scorer, STAYS, STEPS)
        self._windows: list[Window] = windows(self._scorer, WINDOWS)
        self._runs = 0
        self.worst = 0.0

    @property
    def name(self) -> str:
        """The model's, which need not be its folder's."""
        return f"{self._scorer.bundle.name} {self._scorer.digest.removeprefix('sha256:')[:8]}"

    def measure(self) -> dict[str, Any]:
        """Every figure of this model."""
        with ExitStack() as stack:
            servers = {name: stack.enter_context(self._sequela(name)) for name in ("memory", "sqlite")}
            for kind in ("bare", "naive"):
                servers[kind] = stack.enter_context(
                    started(server_command(kind), self._environment(kind), self._log(kind))
                )
            steps, scored = self._step_makes(servers), self._window_makes(servers)
            found: dict[str, Any] = {
                "steps": {str(n): self._closed(steps, n) for n in CONNECTIONS},
                "windows": {str(n): self._closed(scored, n) for n in CONNECTIONS},
            }
            for name, makes in (("steps", steps), ("windows", scored)):
                peaks = {k: v["per_second"] for k, v in found[name]["16"].items()}
                if "open" not in self._without:
                    found[f"{name}_open"] = {
                        kind: self._open(makes, peaks, arrivals)
                        for kind, arrivals in (("poisson", poisson), ("bursty", gamma))
                    }
            if "growth" not in self._without:
                found["growth"] = growth(servers["memory"], self._scorer)
            found["resident_mib"] = {name: round(server.resident_mib, 1) for name, server in servers.items()}
        if "start" not in self._without:
            found["start"] = starts(self._artifact, self._folder)
        if "peers" not in self._without:
            found["peers"] = self._peers()
        found["largest_difference"] = self.worst
        return found

    def _step_makes(self, servers: dict[str, Server]) -> Makes:
        def live(server: Server) -> Callable[[int], Steps | Windows]:
            return lambda run: Steps(server, self._stays, f"run-{run}")

        def empty(server: Server, at: str) -> Callable[[int], Steps | Windows]:
            return lambda run: Steps(server, self._stays, f"run-{run}", at=at)

        memory, sqlite = servers["memory"], servers["sqlite"]
        # It steps once a call, so on a grid of bins, where a step stays open, its scores would be others.
        steps_once = self._scorer.bundle.encoding.grid.kind is GridKind.EVENT
        return {
            "noop": empty(memory, TYPED + STEP),
            "lean_noop": empty(memory, LEAN + STEP),
            "bare": empty(servers["bare"], TYPED + STEP),
            "memory": live(memory),
            "sqlite": live(sqlite),
            **({"naive": live(servers["naive"])} if steps_once else {}),
        }

    def _window_makes(self, servers: dict[str, Server]) -> Makes:
        def window(server: Server, at: str = "/v1/score") -> Callable[[int], Steps | Windows]:
            return lambda _run: Windows(server, self._windows, at=at, scored=at == "/v1/score")

        memory = servers["memory"]
        return {
            "noop": window(memory, TYPED + WINDOW),
            "lean_noop": window(memory, LEAN + WINDOW),
            "bare": window(servers["bare"], TYPED + WINDOW),
            "score": window(memory),
            "naive": window(servers["naive"]),
        }

    def _closed(self, makes: Mapping[str, Callable[[int], Steps | Windows]], connections: int) -> dict[str, Any]:
        """Each contender's rates and percentiles, and the medians of its ratios to the empty endpoints."""
        rounds: list[dict[str, dict[str, float]]] = []
        for _ in range(self._rounds):
            rounds.append({})
            for name, make in makes.items():
                self._runs += 1
                source = make(self._runs)
                asyncio.run(closed_loop(source, connections=connections, seconds=WARM_UP_S))
                began_s = source.cpu_s()
                load = asyncio.run(closed_loop(source, connections=connections, seconds=self._seconds))
                cpu_us = 1e6 * (source.cpu_s() - began_s) / len(load.answers)
                self.worst = max(self.worst, checked(load))
                rounds[-1][name] = {**load.figures(), "cpu_us": round(cpu_us, 1)}
        return {name: _summary(name, rounds) for name in makes}

    def _open(self, makes: Makes, peaks: dict[str, float], arrivals: Callable[..., Any]) -> dict[str, Any]:
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(self._rounds):
            rounds.append({})
            for name, make in makes.items():
                self._runs += 1
                source = make(self._runs)
                due = arrivals(OPEN_SHARE * peaks[name], self._seconds, number)
                load = asyncio.run(open_loop(source, arrivals_s=due))
                self.worst = max(self.worst, checked(load))
                rounds[-1][name] = load.figures()
        return {name: _summary(name, rounds) for name in makes}

    def _peers(self) -> dict[str, Any]:
        """Windows at 16 connections by servers that know no state; what is not installed is left out."""
        found: dict[str, Any] = {}
        if find_spec("litserve"):
            with started(server_command("litserve"), self._environment("litserve"), self._log("litserve")) as server:
                wait_until_ready(server.port, "/health")
                found["litserve"] = self._closed({"litserve": lambda _: Windows(server, self._windows)}, 16)["litserve"]
        if find_spec("mlflow"):
            saved = save_mlflow(self._artifact, self._folder / "mlflow")
            process, port = serve_mlflow(saved, self._log("mlflow"))
            try:
                wait_until_ready(port, "/health")
                server = Server(port, None, process.pid, 0.0)
                rows = [Window(_as_row(w.body), w.risk) for w in self._windows]
                make = {"mlflow": lambda _: Windows(server, rows, at="/invocations")}
                found["mlflow"] = self._closed(make, 16)["mlflow"]
            finally:
                end(process)
        return found

    def _sequela(self, store: str) -> Any:
        key, shown = make_key("benchmark", [Scope.SCORE, Scope.ADMIN, Scope.AUDIT])
        keys = self._folder / f"{store}-keys.json"
        write_keys(keys, [key])
        address = "memory:" if store == "memory" else f"sqlite:///{self._folder / 'stays.sqlite3'}"
        environment = self._environment(store) | {"SEQUELA_KEYS": str(keys), "SEQUELA_STORE": address}
        if store == "memory":
            environment["SEQUELA_AUDIT"] = "off"
        return started(server_command("sequela"), environment, self._log(store), key=shown)

    def _environment(self, name: str) -> dict[str, str]:
        return {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)]),
            "SEQUELA_MODEL": str(self._artifact),
            "SEQUELA_DEVICE": "cpu",
            "SEQUELA_PORT": "0",
            "SEQUELA_CACHE": str(self._folder / f"{name}-cache"),
            "SEQUELA_RATE_LIMIT": "1000000000/minute",
        }

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def _summary(name: str, rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Medians over the rounds, and those of the ratios within a round."""
    own = [one[name] for one in rounds]
    found: dict[str, Any] = {key: round(statistics.median(r[key] for r in own), 3) for key in own[0]}
    for against in ("noop", "lean_noop", "bare"):
        if against in rounds[0] and against != name:
            ratios = sorted(one[name]["per_second"] / one[against]["per_second"] for one in rounds)
            found[f"of_{against}"] = round(statistics.median(ratios), 3)
            found[f"of_{against}_range"] = [round(ratios[0], 3), round(ratios[-1], 3)]
            tails = [one[name]["p99_ms"] / one[against]["p99_ms"] for one in rounds]
            found[f"p99_of_{against}"] = round(statistics.median(tails), 3)
            if "cpu_us" in rounds[0][name]:
                cpu = [one[against]["cpu_us"] / max(one[name]["cpu_us"], 1e-9) for one in rounds]
                found[f"cpu_of_{against}"] = round(statistics.median(cpu), 3)
    return found


def _as_row(body: bytes) -> bytes:
    """A window as `mlflow models serve` takes it: columns of JSON texts, and hours since admission."""
    sent = json.loads(body)
    admission = datetime.fromisoformat(sent["admission"])
    for item in sent["observations"]:
        item["time_h"] = (datetime.fromisoformat(item.pop("time")) - admission).total_seconds() / 3600
    row = {k: json.dumps(sent[k]) for k in ("observations", "static")}
    return json.dumps({"dataframe_records": [row]}).encode()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, action="append", default=[], help="a further model's folder")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=200, help="of the crash test")
    parser.add_argument("--stays", type=int, default=10_000, help="of the change of model under load")
    parser.add_argument("--without", nargs="+", default=[], choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, help="file for the JSON beside standard output")
    args = parser.parse_args()
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[1]})
    torch.set_num_threads(1)
    without = frozenset(args.without)
    figures: dict[str, Any] = {"machine": machine(), "load_average": os.getloadavg(), "models": {}}
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        made = [] if "lstm" in without else [save_network(folder / "lstm")]
        for number, artifact in enumerate((*made, *args.artifact)):
            own = folder / f"bench-{number}"
            own.mkdir()
            bench = Bench(artifact, own, seconds=args.seconds, rounds=args.rounds, without=without)
            print(f"measuring {bench.name}", file=sys.stderr)
            figures["models"][bench.name] = bench.measure()
    os.sched_setaffinity(0, usable)
    parts = {
        "engine": ("engine.py",),
        "crash": ("crash.py", "--kills", str(args.kills)),
        "swap": ("swap.py", "--stays", str(args.stays)),
        **({"gpu": ("engine_gpu.py",)} if torch.cuda.is_available() else {}),
    }
    for part, command in parts.items():
        if part not in without:
            print(f"measuring {part}", file=sys.stderr)
            figures[part] = other(*command)
    figures["lines"] = line_figures(figures)
    text = json.dumps(figures, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
