"""A small corpus of made-up sentences whose drugs and findings are told by their endings."""

from __future__ import annotations

import numpy as np

from models.text.documents import Documents, Span
from pipelines.text.corpus import Corpus, make_corpus

_STEMS = ("met", "car", "lor", "ben", "dol", "fur", "pred", "val", "tox", "neph", "gast", "hep", "myal", "der")
LABELS = ("drug", "finding")


def made_corpus(count: int = 120, *, held_out: bool = False) -> Corpus:
    """Sentences with one drug (-amine) and one finding (-itis or -itis syndrome); four sentences a group."""
    random = np.random.default_rng(0)
    texts, spans = [], []
    for _ in range(count):
        drug = "".join(random.choice(_STEMS, 2)) + "amine"
        finding = "".join(random.choice(_STEMS, 2)) + "itis" + (" syndrome" if random.random() < 0.3 else "")
        text = (
            f"He was given {drug} because of {finding}." if random.random() < 0.5 else f"{finding} after {drug} ２ mg."
        )
        texts.append(text)
        places = ((drug, "drug"), (finding, "finding"))
        spans.append([Span(text.index(word), text.index(word) + len(word), label) for word, label in places])
    return make_corpus(
        Documents(tuple(f"doc-{i}" for i in range(count)), tuple(texts), "en"),
        source="made",
        licence="CC0",
        group=[f"group-{i // 4}" for i in range(count)],
        spans=spans,
        part=["devel" if held_out and i >= 3 * count // 4 // 4 * 4 else "train" for i in range(count)],
    )
