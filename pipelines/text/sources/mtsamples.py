"""The file of transcribed medical reports (MTSamples) in, a corpus of reports with their specialty out.

The same text stands under several specialties. Each distinct text is one document with the first of them, among
specialties that enough rows have; the text is the group, so that no split has it on both sides.

Source: mtsamples.com, CC0; columns note_id, description, medical_specialty, sample_name, transcription, keywords.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from models.text.documents import Documents
from pipelines.text.corpus import Corpus, make_corpus
from pipelines.text.sources.rows import group_of, only_file, texts_of

_FEWEST_TEXTS = 20


def read(paths: Sequence[Path]) -> Corpus:
    """Reads the file.

    Raises:
        DataError: if it is missing or malformed.
    """
    table = texts_of(
        only_file(paths, "mtsamples"),
        "documents",
        required=("note_id", "medical_specialty", "transcription"),
        ignored=("description", "sample_name", "keywords"),
    )
    rejected: Counter[str] = Counter()
    specialties = [name.strip() for name in table["medical_specialty"]]
    rows = Counter(specialties)
    first: dict[str, int] = {}
    for i, (name, text) in enumerate(zip(specialties, table["transcription"], strict=True)):
        if not text.strip():
            rejected["no_text"] += 1
        elif rows[name] < _FEWEST_TEXTS:
            rejected["rare_specialty"] += 1
        elif group_of(text) in first:
            rejected["repeated_text"] += 1
        else:
            first[group_of(text)] = i
    texts = Counter(specialties[i] for i in first.values())
    kept = {group: i for group, i in first.items() if texts[specialties[i]] >= _FEWEST_TEXTS}
    rejected["rare_specialty"] += len(first) - len(kept)
    return make_corpus(
        Documents(
            tuple(table["note_id"][i] for i in kept.values()),
            tuple(table["transcription"][i] for i in kept.values()),
            "en",
        ),
        group=tuple(kept),
        labels=[(specialties[i],) for i in kept.values()],
        source="mtsamples",
        licence="CC0",
        rejected=dict(rejected),
    )
