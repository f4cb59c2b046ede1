"""Rows that a model of documents is asked for through MLflow in, their texts and identifiers out."""

from __future__ import annotations

import pandas as pd

from models.errors import DataError


def texts_and_ids(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The column `text`, and `document_id` or the rows' numbers.

    Raises:
        DataError: if a text is missing; it would be read as the word that stands for nothing.
    """
    absent = int(rows["text"].isna().sum())
    if absent:
        raise DataError(f"text must be given in every row, got {absent} of {len(rows)} without one; drop those rows")
    given = rows["document_id"] if "document_id" in rows else range(len(rows))
    return [str(text) for text in rows["text"]], [str(i) for i in given]
