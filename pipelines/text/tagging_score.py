"""A tagger and texts in, a table with a row a span out; the table holds places and labels, and none of the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from models.text.tagger import Tagger
from pipelines.text.tagging_evaluate import tag_documents


def span_table(tagger: Tagger, texts: Sequence[str], document_id: Sequence[str]) -> pd.DataFrame:
    """`document_id`, `start`, `end`, `label` and `probability` of every span, by document and place."""
    rows = [
        (name, found.span.start, found.span.end, found.span.label, found.probability)
        for name, spans in zip(document_id, tag_documents(tagger, texts), strict=True)
        for found in spans
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    return pd.DataFrame(
        {
            "document_id": pd.array(columns[0], dtype="str"),
            "start": np.array(columns[1], dtype=np.int64),
            "end": np.array(columns[2], dtype=np.int64),
            "label": pd.array(columns[3], dtype="str"),
            "probability": np.array(columns[4], dtype=np.float64),
        }
    )
