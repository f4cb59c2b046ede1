"""`kill -9` in a loop under load: no acknowledged observation is lost, none is doubled, every score is the offline one.

    python benchmarks/crash.py                        # 200 kills on SQLite, about a quarter of an hour
    python benchmarks/crash.py --kills 20 --store postgresql://user@host/name

Writers send stays step by step, each with several calls' worth of observations under identifiers of their own, and send
a call again until it is answered. The service is killed at random moments, with at least so many acknowledged writes
between two of them. Whenever it is dead, the store is read: what was acknowledged is there, once. At the end every
stay holds exactly what was sent, and its current score is that of the offline scorer. Prints one JSON object; the exit
status is 1 if anything does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine
from serving_cohort import LiveStay, live_stays, save_network
from serving_process import Service
from serving_writers import Writer, current_risk

from models.artifact import load_artifact
from service.live.choice import keeping_at
from service.live.journal import Journal

TOLERANCE = 1e-5
STAYS, STEPS = 8, 40
WAIT_S = 120.0
# A kill comes this long after its least number of writes, at the longest: long enough to hit every part of a write.
MOST_DELAY_S = 0.25


class Crash:
    """One run.

    Args:
        service: what is killed and started again.
        stays: whose bodies are sent, under new identifiers again and again.
        store: address of its store.
        writers: how many send at one time.
        seed: of the moments.
    """

    def __init__(self, service: Service, stays: Sequence[LiveStay], store: str, *, writers: int, seed: int) -> None:
        self._service, self._store, self._random = service, store, random.Random(seed)
        self._writers = [Writer(service.port, stays, f"crash-{i}") for i in range(writers)]
        self.faults: list[str] = []

    def run(self, kills: int, *, least_writes: int, seconds: float = math.inf) -> dict[str, Any]:
        """Kills so many times, and says what was found."""
        began, between = time.perf_counter(), []
        self._service.start()
        for writer in self._writers:
            writer.start()
        for _ in range(kills):
            if time.perf_counter() - began > seconds:
                break
            before = self._acknowledged()
            self._await_writes(before + least_writes)
            time.sleep(self._random.uniform(0, MOST_DELAY_S))
            self._service.kill()
            between.append(self._acknowledged() - before)
            self._look(final=False)
            self._service.start()
        for writer in self._writers:
            writer.finish()
        self._look(final=True)
        worst = self._compare()
        self._service.stop()
        return {
            "kills": len(between),
            "writes_between_kills": {
                "least": min(between, default=0),
                "mean": round(sum(between) / max(len(between), 1), 1),
            },
            "acknowledged_writes": self._acknowledged(),
            "calls_sent_again": sum(writer.again for writer in self._writers),
            "stays": sum(len(writer.sent) for writer in self._writers),
            "largest_difference": worst,
            "faults": self.faults,
            "seconds": round(time.perf_counter() - began, 1),
        }

    def _acknowledged(self) -> int:
        return sum(writer.acknowledged for writer in self._writers)

    def _await_writes(self, number: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while self._acknowledged() < number:
            if time.monotonic() > deadline:
                raise TimeoutError("the service must acknowledge writes, got none for long; see its log")
            time.sleep(0.002)

    def _look(self, *, final: bool) -> None:
        """Compares what the store has with what was acknowledged; at the end, of every stay and exactly."""
        wanted: dict[str, tuple[set[str], set[str]]] = {}
        for writer in self._writers:
            for stay_id, sent in list(writer.sent.items())[None if final else -2 :]:
                wanted[stay_id] = (set(sent.acknowledged), set(sent.identifiers))
        held = asyncio.run(_held(self._store, list(wanted)))
        for stay_id, (acknowledged, identifiers) in wanted.items():
            found = Counter(held[stay_id])
            lost, doubled = acknowledged - set(found), [name for name, count in found.items() if count > 1]
            foreign = set(found) - identifiers
            missing = identifiers - set(found) if final else set()
            for what, names in (("lost", lost | missing), ("doubled", doubled), ("never sent", foreign)):
                if names:
                    self.faults.append(f"{what}: {len(names)} observations of {stay_id}")

    def _compare(self) -> float:
        """The largest difference of an answer, or of a current score, from the offline one."""
        worst = max((writer.worst for writer in self._writers), default=0.0)
        for writer in self._writers:
            for stay_id, sent in writer.sent.items():
                worst = max(worst, abs(current_risk(self._service.port, stay_id) - sent.risk))
        if worst > TOLERANCE:
            self.faults.append(f"a score is {worst:g} away from the offline one")
        return worst


async def _held(address: str, stay_ids: Sequence[str]) -> dict[str, list[str]]:
    """Identifiers of the observations that the journals hold, in every entry that says one."""
    keeping = keeping_at(address)
    await keeping.open()
    try:
        found = {}
        for stay_id in stay_ids:
            head = await keeping.store.head(stay_id)
            entries = await keeping.store.entries(head.number) if head else []
            Journal().read(entries)  # refuses a gap
            found[stay_id] = [row[0] for entry in entries for row in json.loads(entry.payload).get("o", ())]
        return found
    finally:
        await keeping.close()


def main() -> int:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--least-writes", type=int, default=50, help="acknowledged between two kills")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no kill after so long")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", help="address of a store with nothing of another run; default a new SQLite file")
    parser.add_argument("--artifact", type=Path, help="a model's folder; default a 2 x 128 LSTM with random weights")
    parser.add_argument("--out", type=Path, help="file for the JSON beside standard output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="crash-") as name:
        folder = Path(name)
        artifact = args.artifact or save_network(folder / "lstm")
        stays = live_stays(load_artifact(artifact), STAYS, STEPS)
        store = args.store or f"sqlite:///{folder / 'stays.sqlite3'}"
        service = Service(artifact, folder, {"SEQUELA_STORE": store})
        try:
            crash = Crash(service, stays, store, writers=args.writers, seed=args.seed)
            found = crash.run(args.kills, least_writes=args.least_writes, seconds=args.seconds)
        finally:
            service.kill()
    figures = {"machine": machine(), "load_average": os.getloadavg(), "store": store.partition(":")[0], **found}
    text = json.dumps(figures, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
