"""What learning a language from notes without labels is worth where few have one: MTSamples, macro-F1 on unseen texts.

    python benchmarks/text_pretraining.py --data FOLDER [--share 0.2] [--seeds 0 1] [--epochs 5] [--masked]

A share of the training texts, by a keyed hash of their groups, keeps its label; the others are read for pre-training
alone. The network stands by itself, without the linear member, and starts from chance, from a language model (the next
token, or those taken out), or from counted vectors as `configs/specialty-en.toml` does. All ways take as many steps as
with every label. The hold-out is that of `text.py specialty`; intervals are over draws of its groups, with both ways
met by the same draws. Nothing is chosen here. Prints one JSON object, and writes it to `--out`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine
from text import ROOT, corpus_of, held_out_parts, named_by, say

from pipelines.split import Part, patient_fraction
from pipelines.text.config import TextPretrainingConfig, TextRunConfig, load_text_config
from pipelines.text.corpus import Corpus
from pipelines.text.document_evaluate import true_labels
from pipelines.text.document_metrics import document_figures, naming_difference
from pipelines.text.train import train_documents

WITHOUT = "chance"
# A softmax over three times as many tokens takes three times as long, and few labels need no more.
VOCABULARY = 2000


def ways(config: TextRunConfig, epochs: int, masked: bool) -> dict[str, TextPretrainingConfig]:
    """From what the network starts."""
    return {
        WITHOUT: TextPretrainingConfig(),
        "language_model": TextPretrainingConfig(
            epochs=epochs, next_token_weight=1.0 - masked, masked_token_weight=1.0 * masked
        ),
        "counted_vectors": config.pretraining,
    }


def few_labels(corpus: Corpus, parts: dict[Part, np.ndarray], share: float) -> tuple[Corpus, dict[Part, np.ndarray]]:
    """The corpus with so few training texts labelled, and the parts with those alone to train the task on."""
    kept = np.array([patient_fraction("labelled", corpus.group[row]) < share for row in parts[Part.TRAIN]])
    bare = set(parts[Part.TRAIN][~kept].tolist())
    labels = tuple(() if row in bare else own for row, own in enumerate(corpus.labels))
    return replace(corpus, labels=labels), parts | {Part.TRAIN: parts[Part.TRAIN][kept]}


def worth(corpus: Corpus, config: TextRunConfig, share: float, seed: int, **learnt: int) -> dict[str, Any]:
    """Macro-F1 of every way with one seed, and what it gains over chance."""
    task, whole = replace(config.task, labels=corpus.label_names), held_out_parts(corpus)
    held = corpus.select(whole[Part.TEST].tolist())
    _, truth = true_labels(held, task)
    some, parts = few_labels(corpus, whole, share)
    rounds = round(config.training.max_epochs * len(whole[Part.TRAIN]) / len(parts[Part.TRAIN]))
    facts = (task.labels, held.group, config.evaluation)
    found: dict[str, Any] = {"seed": seed, "labelled": len(parts[Part.TRAIN]), "judged": len(held), "epochs": rounds}
    named: dict[str, Any] = {}
    for way, pretraining in ways(config, **learnt).items():
        run = replace(
            config,
            task=task,
            seed=seed,
            pretraining=pretraining,
            members=replace(config.members, phrases=False),
            baselines=replace(config.baselines, tfidf=False),
            training=replace(config.training, max_epochs=rounds),
        )
        with tempfile.TemporaryDirectory() as folder:
            named[way] = named_by(train_documents(some, run, folder=Path(folder), parts=parts, say=say).scorer, held)
        found[way] = document_figures(truth, named[way], named[way] * 1.0, *facts, exclusive=True).metrics["macro_f1"]
        if way != WITHOUT:
            found[f"{way} - {WITHOUT}"] = naming_difference(truth, named[way], named[WITHOUT], *facts)
        say(f"seed {seed}, {way}: {found[way]}")
    return found


def main() -> None:
    """Runs every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.2, help="of the training texts that keep their label")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=5, help="of the language model")
    parser.add_argument("--masked", action="store_true", help="it learns tokens that were taken out, not the next one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    corpus = corpus_of("specialty", args.data)
    chosen = [f"tokenizer.vocabulary_size={VOCABULARY}", *args.set]
    config = load_text_config(ROOT / "configs" / "specialty-en.toml", chosen)
    rows = [worth(corpus, config, args.share, seed, epochs=args.epochs, masked=args.masked) for seed in args.seeds]
    text = json.dumps(
        {"machine": machine(), "share": args.share, "language_model_epochs": args.epochs, "seeds": rows}, indent=2
    )
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
