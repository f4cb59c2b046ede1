"""A prepared corpus in, the TF-IDF baseline's macro-F1 on unseen groups out, over several splits.

`python benchmarks/text_baselines.py CORPUS... [--keys 5]`. Every split is that of `sequela train` under another key;
the baseline trains on all but the test part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from models.text.task import TextTask, TextTaskKind
from pipelines.split import Part, SplitConfig, split_patients
from pipelines.text.baselines import fit_tfidf
from pipelines.text.corpus import Corpus
from pipelines.text.corpus_files import read_corpus


def macro_f1(corpus: Corpus, config: SplitConfig) -> float:
    """Macro-F1 over the labels of the test part."""
    several = any(len(own) != 1 for own in corpus.labels)
    kind = TextTaskKind.MULTILABEL if several else TextTaskKind.CLASSIFICATION
    task = TextTask(kind, corpus.label_names, corpus.language)
    parts = split_patients(corpus.group, config)
    test = corpus.select(parts[Part.TEST].tolist())
    rest = corpus.select(sorted(set(range(len(corpus))) - set(parts[Part.TEST].tolist())))
    risks = fit_tfidf(rest.documents.text, rest.labels, task).risks(test.documents.text)
    truth = np.array([[name in own for name in task.labels] for own in test.labels])
    found = risks >= 0.5 if several else np.eye(len(task.labels), dtype=bool)[risks.argmax(axis=1)]
    present = np.flatnonzero(truth.any(axis=0) | found.any(axis=0))
    return float(f1_score(truth, found, labels=present, average="macro", zero_division=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--keys", type=int, default=5)
    parser.add_argument("--test", type=float, default=0.3, help="share of groups that is held out")
    args = parser.parse_args()
    for path in args.corpora:
        corpus = read_corpus(path)
        start = time.process_time()
        rest = 1.0 - args.test
        shares = {"train": rest - 0.2, "validation": 0.1, "calibration": 0.1, "test": args.test}
        scores = [macro_f1(corpus, SplitConfig(key=f"baseline-{k}", **shares)) for k in range(args.keys)]
        print(
            json.dumps(
                {
                    "corpus": corpus.source,
                    "documents": len(corpus),
                    "macro_f1": [round(score, 3) for score in scores],
                    "mean": round(statistics.mean(scores), 3),
                    "cpu_s": round(time.process_time() - start, 1),
                }
            )
        )


if __name__ == "__main__":
    main()
