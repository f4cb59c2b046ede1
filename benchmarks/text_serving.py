"""Latency of classifying reports over REST, on one core, alone and beside long ones.

    python benchmarks/text_serving.py --data FOLDER [--requests 300] [--config configs/specialty-en.toml]

The service runs as `python -m service`, held to one core, with a model of documents of the configured shape whose
weights are random: what they say does not change how long they take. Reports of 300 tokens are sent one after another
over one connection, first alone, then while another client sends reports of 2,000 tokens without a pause. Prints one
JSON object, and writes it to `--out`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine
from serving_cohort import save_network
from serving_process import Service
from serving_run import cores

from models.calibration import Calibration
from models.ensemble import Ensemble
from models.task import TargetKind
from models.text.artifact import save_text_artifact
from models.text.bundle import TextBundle, TextMemberKind, TextMemberSpec
from models.text.network import TextNetwork
from models.text.phrases import PhraseMember, common_phrases
from models.text.scorer import TextScorer
from models.text.tokenizer import TextTokenizer
from pipelines.text.config import TextRunConfig, load_text_config
from pipelines.text.sources import mtsamples

ROOT = Path(__file__).parent.parent
DOCUMENTS = 400
SHORT, LONG = 300, 2000
WARMUP = 20
ADDRESS = "/v1/notes/classify"


def random_model(texts: tuple[str, ...], labels: tuple[str, ...], config: TextRunConfig) -> TextScorer:
    """A model of the configured shape: as many networks, and a linear member that knows the texts' phrases."""
    groups = [str(i) for i in range(len(texts))]
    tokenizer = TextTokenizer.train(texts, groups, config.tokenizer)
    size, draw = tokenizer.vocabulary_size, np.random.default_rng(0)
    ids = [tokenizer.encode(text).ids.astype(np.int64) for text in texts]
    keys, rarity = common_phrases(ids, groups, config.phrases, size)
    linear = PhraseMember(keys, rarity, longest=config.phrases.longest, vocabulary_size=size, outputs=len(labels))
    linear.take(draw.normal(size=(len(keys), len(labels))), np.zeros(len(labels)))
    torch.manual_seed(0)
    count = config.members.networks
    networks = [
        TextNetwork(config.network, vocabulary_size=size, outputs=len(labels), at_ends=True) for _ in range(count)
    ]
    weights = [*(0.5 / count,) * count, 0.5]
    specs = [TextMemberSpec(TextMemberKind.NETWORK, weight) for weight in weights[:-1]]
    specs.append(TextMemberSpec(TextMemberKind.PHRASES, 0.5, longest=linear.longest, phrases=linear.phrases))
    bundle = TextBundle(
        name="reports",
        task=type(config.task)(config.task.kind, labels, config.task.language),
        network=config.network,
        members=tuple(specs),
        calibration=Calibration.identity(TargetKind.MULTICLASS, len(labels)),
        shift=(0.0,) * len(labels),
        decision=(0.0,) * len(labels),
        created="2026-01-01T00:00:00+00:00",
    )
    return TextScorer(bundle, Ensemble([*networks, linear], weights), tokenizer)


def report_of(tokens: int, scorer: TextScorer, texts: tuple[str, ...]) -> bytes:
    """A request with one report of so many tokens, made of reports end to end."""
    long = " ".join(texts[:20])
    end = int(scorer.tokenizer.encode(long).offsets[tokens - 1, 1])
    return json.dumps({"documents": [{"document_id": "report", "text": long[:end]}]}).encode()


def milliseconds(connection: http.client.HTTPConnection, body: bytes, tokens: int) -> float:
    """How long one answer took, which must be of as many tokens, give or take one at the cut."""
    began = time.perf_counter()
    connection.request("POST", ADDRESS, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    taken = 1000 * (time.perf_counter() - began)
    if answer.status != 200 or abs(json.loads(content)["documents"][0]["tokens_read"] - tokens) > 1:
        raise RuntimeError(f"the service must classify a report of {tokens} tokens, got status {answer.status}")
    return taken


@contextmanager
def long_reports(port: int, body: bytes, taken: list[float]) -> Iterator[None]:
    """Sends long reports from a thread, one after another, until the block ends."""
    ended = threading.Event()

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while not ended.is_set():
            taken.append(milliseconds(connection, body, LONG))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure(port: int, scorer: TextScorer, texts: tuple[str, ...], requests: int) -> dict[str, Any]:
    """Quantiles of a short report's answer alone and beside long ones, and of the long ones."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    short, long = (report_of(tokens, scorer, texts) for tokens in (SHORT, LONG))
    for _ in range(WARMUP):
        milliseconds(connection, short, SHORT)
    alone = [milliseconds(connection, short, SHORT) for _ in range(requests)]
    beside_them: list[float] = []
    with long_reports(port, long, beside_them):
        beside = [milliseconds(connection, short, SHORT) for _ in range(requests)]
    return {
        f"report_of_{SHORT}_alone_ms": quantiles(alone),
        f"report_of_{SHORT}_beside_long_ones_ms": quantiles(beside),
        f"report_of_{LONG}_ms": quantiles(beside_them),
    }


def quantiles(taken: list[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum."""
    p50, p95, longest = np.quantile(taken, [0.5, 0.95, 1.0]).tolist()
    return {"p50": p50, "p95": p95, "max": longest}


def main() -> None:
    """Starts the service and prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "specialty-en.toml")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = load_text_config(args.config)
    corpus = mtsamples.read([args.data / "notes-en" / "mtsamples.csv.xz"])
    texts = corpus.documents.text[:DOCUMENTS]
    scorer = random_model(texts, corpus.label_names, config)
    served, load = cores()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_text_artifact(folder / "reports", scorer)
        service = Service(
            save_network(folder / "model"), folder, {"SEQUELA_TEXT_MODELS": f"reports={folder / 'reports'}"}
        )
        # A process takes its parent's cores: the service's first, then the load's.
        usable = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {served})
        try:
            service.start()
            os.sched_setaffinity(0, {load})
            found = measure(service.port, scorer, texts, args.requests)
        finally:
            service.kill()
            os.sched_setaffinity(0, usable)
    text = json.dumps({"machine": machine(), **found}, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
