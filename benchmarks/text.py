"""Quality of document classification and speed of its training, one command a row.

    python benchmarks/text.py specialty --data FOLDER                  # MTSamples, with and without pre-training
    python benchmarks/text.py crade|rrtnm|smdis --data FOLDER [--seeds 5]
    python benchmarks/text.py throughput --data FOLDER                 # against nn.LSTM over padded batches

`specialty` holds out three tenths of the groups by a keyed hash, texts that nobody looked at when the configuration was
chosen, and trains on the rest; intervals are over draws of groups. The Japanese rows train with one seed after another,
each also the key of a split that holds out three tenths of the reports, or 15 % of the posts of `smdis`, whose macro-F1
is over symptom and answer together. Nothing is chosen on a hold-out. Prints one JSON object, and writes it to `--out`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine

from models.cells import Cell
from models.ensemble import Ensemble
from models.text.network import TextNetwork, TextNetworkConfig
from models.text.scorer import TextScorer
from models.text.task import TextTask, TextTaskKind
from pipelines.split import Part, patient_fraction, split_patients
from pipelines.text.baselines import fit_tfidf
from pipelines.text.config import TextRunConfig, load_text_config
from pipelines.text.corpus import Corpus
from pipelines.text.dataset import build_dataset, document_targets
from pipelines.text.document_evaluate import as_table, document_risks, named_by_risk, true_labels
from pipelines.text.document_metrics import document_figures, naming, naming_difference
from pipelines.text.members import objective
from pipelines.text.sources import jmed, mtsamples
from pipelines.text.train import train_documents
from pipelines.training_loop import train_network

ROOT = Path(__file__).parent.parent
KEY, HELD_OUT = "never-looked-at", 0.3
# A few hundred reports hold little of the rare classes; of fifteen hundred posts with eight answers fewer are kept.
FEW = {"train": 0.55, "validation": 0.05, "calibration": 0.1, "test": HELD_OUT}
SHARES = {"crade": FEW, "rrtnm": FEW, "smdis": {"train": 0.79, "validation": 0.01, "calibration": 0.05, "test": 0.15}}
PAIRS = (
    ("model_pretrained", "tfidf"),
    ("model_pretrained", "model_without"),
    ("network_pretrained", "network_without"),
    ("network_pretrained", "tfidf"),
)
HIDDEN, EMBEDDING, ROWS, TOKENS = 64, 64, 32, 256


def corpus_of(row: str, data: Path) -> Corpus:
    """The row's documents."""
    if row in ("specialty", "throughput"):
        return mtsamples.read([data / "notes-en" / "mtsamples.csv.xz"])
    # The eight questions on a post share what they hang on, so that a post is read once and answers all of them.
    form = jmed.Form.REPORT if row == "smdis" else jmed.Form.QUESTION
    return jmed.read([data / "notes-ja" / f"{row}.csv.xz"], form=form)


def held_out_parts(corpus: Corpus) -> dict[Part, np.ndarray]:
    """Rows of every part; the configuration was chosen without a look at the hold-out's."""
    held = np.array([patient_fraction(KEY, g) < HELD_OUT for g in corpus.group])
    share = np.array([patient_fraction(f"{KEY}/parts", g) for g in corpus.group])
    bounds = {Part.VALIDATION: (0.0, 0.1), Part.CALIBRATION: (0.1, 0.15), Part.TRAIN: (0.15, 1.0)}
    parts = {p: np.flatnonzero(~held & (share >= low) & (share < high)) for p, (low, high) in bounds.items()}
    return parts | {Part.TEST: np.flatnonzero(held)}


def specialty(corpus: Corpus, config: TextRunConfig) -> dict[str, Any]:
    """Figures on unseen texts, with pre-training and without, of the model and of its network alone."""
    task, parts = replace(config.task, labels=corpus.label_names), held_out_parts(corpus)
    held = corpus.select(parts[Part.TEST].tolist())
    _, truth = true_labels(held, task)
    ways = {
        "pretrained": config.pretraining,
        "without": replace(config.pretraining, epochs=0, vectors_window=0),
    }
    named: dict[str, Any] = {}
    found: dict[str, Any] = {"documents": len(held), "trained_on": len(corpus) - len(held)}
    for way, pretraining in ways.items():
        run = replace(config, task=task, pretraining=pretraining, baselines=replace(config.baselines, tfidf=False))
        with tempfile.TemporaryDirectory() as folder:
            trained = train_documents(corpus, run, folder=Path(folder), parts=parts, say=say)
        named[f"model_{way}"] = named_by(trained.scorer, held)
        named[f"network_{way}"] = named_by(network_alone(trained.scorer), held)
        found[f"phrase_share_{way}"] = trained.members.phrase_share
    named["tfidf"] = named_by_risk(tfidf_risks(corpus, held, parts, task), task)
    facts = (task.labels, held.group, config.evaluation)
    for name, table in named.items():
        figures = document_figures(truth, table, table * 1.0, *facts, exclusive=True).metrics
        found[name] = {"macro_f1": figures["macro_f1"], "exact": figures["exact"]}
    for one, other in PAIRS:
        found[f"{one} - {other}"] = naming_difference(truth, named[one], named[other], *facts)
    return found


def tfidf_risks(corpus: Corpus, held: Corpus, parts: dict[Part, np.ndarray], task: TextTask) -> Any:
    """(documents, labels) risks of the baseline, fitted on everything that is not held out."""
    seen = corpus.select(np.setdiff1d(np.arange(len(corpus)), parts[Part.TEST]).tolist())
    return fit_tfidf(seen.documents.text, seen.labels, task).risks(held.documents.text)


def network_alone(scorer: TextScorer) -> TextScorer:
    """The same model without its linear member."""
    networks = [member for member in scorer.network if isinstance(member, TextNetwork)]
    return TextScorer(scorer.bundle, Ensemble(networks), scorer.tokenizer)


def named_by(scorer: TextScorer, held: Corpus) -> Any:
    """(documents, labels) what a model names."""
    risk = document_risks(scorer, held.documents.text)
    return as_table(scorer.named(risk), risk.shape[1])


def seeds(corpus: Corpus, config: TextRunConfig, count: int, shares: dict[str, float]) -> dict[str, Any]:
    """Macro-F1 of several seeds, each with its own split, beside the baseline on the same documents."""
    names = ("model", "tfidf") if config.baselines.tfidf else ("model",)
    found: dict[str, list[float]] = {name: [] for name in names}
    task, alone = replace(config.task, labels=corpus.label_names), replace(config.baselines, tfidf=False)
    for seed in range(count):
        parts = split_patients(corpus.group, replace(config.split, key=f"{config.split.key}-{seed}", **shares))
        held = corpus.select(parts[Part.TEST].tolist())
        _, truth = true_labels(held, task)
        own = replace(config, task=task, seed=seed, baselines=alone)
        with tempfile.TemporaryDirectory() as folder:
            scorer = train_documents(corpus, own, folder=Path(folder), parts=parts, say=say).scorer
        found["model"].append(macro_f1(truth, named_by(scorer, held), task))
        if "tfidf" in found:
            risks = tfidf_risks(corpus, held, parts, task)
            found["tfidf"].append(macro_f1(truth, named_by_risk(risks, task), task))
        say(f"seed {seed}: " + ", ".join(f"{name} {values[-1]:.3f}" for name, values in found.items()))
    return {name: {"mean": statistics.mean(values), "values": values} for name, values in found.items()}


def macro_f1(truth: Any, named: Any, task: TextTask) -> float:
    """The mean over classes; of several yes-or-no labels over both answers to each, as if each answer were a class."""
    labels: tuple[str, ...] = task.labels
    if task.kind is TextTaskKind.MULTILABEL:
        truth, named = np.concatenate([truth, ~truth], axis=1), np.concatenate([named, ~named], axis=1)
        labels = (*labels, *(f"no {label}" for label in labels))
    return float(naming(truth, named, labels)(np.ones((1, len(truth))))["macro_f1"][0])


def throughput(corpus: Corpus, config: TextRunConfig, turns: int, cell: Cell) -> dict[str, Any]:
    """Tokens a second of an epoch on tapes, and of a plain loop over padded batches, in turn.

    By the clock, and by processor time too, which says more on a machine that others use.
    """
    network = TextNetworkConfig(cell=cell, hidden_size=HIDDEN, embedding_size=EMBEDDING)
    training = replace(config.training, truncation_length=TOKENS, rows=ROWS, max_epochs=1, accelerator="cpu")
    run = replace(config, network=network, training=training)
    data = build_dataset(corpus, run)
    tokens = len(data.parts[Part.TRAIN].read.encoded.features)
    found: dict[str, Any] = {"tokens": tokens, "cell": str(cell), "threads": torch.get_num_threads()}
    taken = [(tapes_epoch(data, run), padded_epoch(data)) for _ in range(turns)]
    for clock, name in enumerate(("wall", "processor")):
        ratios = [padded[clock] / tapes[clock] for tapes, padded in taken]
        found[name] = {
            "tapes_tokens_a_second": tokens / statistics.median(tapes[clock] for tapes, _ in taken),
            "padded_tokens_a_second": tokens / statistics.median(padded[clock] for _, padded in taken),
            "ratio": statistics.median(ratios),
            "ratios": ratios,
        }
    return found


def tapes_epoch(data: Any, run: TextRunConfig) -> tuple[float, float]:
    """Seconds, and processor seconds, of one epoch of the task's training, Lightning and validation included."""
    size, labels = data.tokenizer.vocabulary_size, len(data.task.labels)
    train, few = data.parts[Part.TRAIN], data.parts[Part.VALIDATION]
    length = run.training.truncation_length
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter(), time.process_time()
        train_network(
            lambda: TextNetwork(run.network, vocabulary_size=size, outputs=labels, at_ends=True),
            settings={},
            objective=objective(data, run),
            train=(train.read.encoded, document_targets(train, truncation_length=length, replication=0.3)),
            validation=(few.read.encoded, document_targets(few, truncation_length=length, replication=0.0)),
            task=data.task.spec(run.name),
            training=run.training,
            seed=0,
            folder=Path(folder),
        )
        return time.perf_counter() - began[0], time.process_time() - began[1]


def padded_epoch(data: Any) -> tuple[float, float]:
    """Seconds, and processor seconds, of one epoch of embedding, `nn.LSTM`, mean and head over padded batches."""
    part = data.parts[Part.TRAIN]
    ids = [torch.from_numpy(own) for own in part.ids]
    label = torch.from_numpy(part.label[:, 0].astype(np.int64))
    torch.manual_seed(0)
    embedding = nn.Embedding(data.tokenizer.vocabulary_size, EMBEDDING, padding_idx=0)
    layer, head = nn.LSTM(EMBEDDING, HIDDEN, batch_first=True), nn.Linear(HIDDEN, len(data.task.labels))
    optimizer = torch.optim.AdamW([*embedding.parameters(), *layer.parameters(), *head.parameters()], lr=1e-3)
    began = time.perf_counter(), time.process_time()
    for rows in torch.randperm(len(ids)).split(ROWS):
        batch = nn.utils.rnn.pad_sequence([ids[i] for i in rows.tolist()], batch_first=True)
        valid = (batch > 0)[..., None]
        hidden, _ = layer(embedding(batch))
        loss = nn.functional.cross_entropy(head((hidden * valid).sum(1) / valid.sum(1)), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def say(line: str) -> None:
    """A line for people."""
    sys.stderr.write(line + "\n")


def main() -> None:
    """Runs one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=("specialty", "crade", "rrtnm", "smdis", "throughput"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cell", type=Cell, default=Cell.LSTM, help="of throughput: the cell on tapes")
    parser.add_argument("--documents", type=int, default=0, help="of throughput: its first so many; 0 = all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    corpus = corpus_of(args.row, args.data)
    name = args.row if args.row in ("crade", "rrtnm", "smdis") else "specialty"
    config = load_text_config(ROOT / "configs" / f"{name}-{'ja' if name != 'specialty' else 'en'}.toml", args.set)
    match args.row:
        case "specialty":
            found = specialty(corpus, config)
        case "throughput":
            some = corpus.select(range(args.documents)) if args.documents else corpus
            found = throughput(some, config, args.turns, args.cell)
        case _:
            found = seeds(corpus, config, args.seeds, SHARES[args.row])
    text = json.dumps({"row": args.row, "machine": machine(), **found}, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
