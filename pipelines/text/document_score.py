"""A model of documents and texts in, a table with a row a document out: risks and labels, and none of the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from models.text.scorer import TextScorer
from pipelines.text.document_evaluate import document_risks


def risk_table(scorer: TextScorer, texts: Sequence[str], document_id: Sequence[str]) -> pd.DataFrame:
    """`document_id`, `label` (those that are named, separated by `|`), and `risk_<label>` of every label."""
    labels = scorer.bundle.task.labels
    risk = document_risks(scorer, texts)
    named = ["|".join(labels[k] for k in own) for own in scorer.named(risk)]
    columns = {"document_id": pd.array(list(document_id), dtype="str"), "label": pd.array(named, dtype="str")}
    risks = {f"risk_{label}": np.ascontiguousarray(risk[:, k]) for k, label in enumerate(labels)}
    return pd.DataFrame(columns | risks)
