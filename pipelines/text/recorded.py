"""A registered version of a model of documents in, the corpus that its run recorded out, as the gate needs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from models.errors import RefusedError
from pipelines.registry import HOLDOUT_FILE, ModelVersion
from pipelines.text.corpus import Corpus
from pipelines.text.corpus_files import read_corpora
from pipelines.tracking import mlflow, quiet, reached


def recorded_corpus(folders: Sequence[Path], fingerprint: str) -> Corpus:
    """The documents of these folders, which must be those that the version was trained on."""
    corpus = read_corpora(folders)
    if corpus.fingerprint != fingerprint:
        raise RefusedError(
            "corpus must be the one that the version was trained on, got another fingerprint; give its folder with "
            "--cohort"
        )
    return corpus


def recorded_folders(version: ModelVersion) -> list[Path]:
    """Folders of the corpora that the version's run recorded."""
    with reached(), quiet():
        text = mlflow.artifacts.load_text(f"runs:/{version.run_id}/{HOLDOUT_FILE}")
    folders = [Path(folder) for folder in json.loads(text)["corpora"]]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise RefusedError(
            f"corpora must lie where the run recorded them, got {len(missing)} that do not; give them with --cohort"
        )
    return folders
