"""Vectors from a local file start embeddings; what does not hold is refused, and no place of a file is kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.errors import ConfigError, DataError
from models.text.tokenizer import TextTokenizer, TokenizerConfig
from models.text.vocabulary import FIRST_WORD, VocabularyConfig, WordVocabulary
from pipelines.text.config import TextPretrainingConfig
from pipelines.text.dataset import build_dataset
from pipelines.text.members import fit_members
from pipelines.text.tagging_config import TaggingBaselines
from pipelines.text.tagging_train import train_tagger
from pipelines.text.train import train_documents
from pipelines.text.vector_file import VectorsConfig, start_from, token_vectors, word_vectors
from tests.pipelines.text.tagging_corpus import made_corpus
from tests.pipelines.text.test_documents_training import CONFIG, corpus
from tests.pipelines.text.test_tagging_train import CONFIG as TAGGING

TEXTS = ("Fever and cough seen", "fever and 発熱 seen", "cough and 発熱")
GROUPS = ("a", "b", "c")


def written(folder: Path, words: dict[str, list[float]], *, header: str | None = None) -> VectorsConfig:
    """A `.vec` file of these words."""
    width = len(next(iter(words.values())))
    lines = [header if header is not None else f"{len(words)} {width}"]
    lines += [f"{word} {' '.join(map(str, vector))} " for word, vector in words.items()]
    path = folder / "some.vec"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return VectorsConfig(str(path))


def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(TEXTS * 4, [f"{g}{i}" for i in range(4) for g in GROUPS], TokenizerConfig(min_groups=2))


def test_tokens_that_are_words_take_the_files_vectors_exact_case_first(tmp_path: Path) -> None:
    config = written(tmp_path, {"fever": [1, 2], "Fever": [3, 4], "and": [5, 6], "発熱": [7, 8], "ev": [9, 9]})
    known = tokenizer()
    found = token_vectors(config, known, width=2)
    assert found is not None
    taken = {known.vocabulary[row]: vector.tolist() for row, vector in zip(found.rows, found.values, strict=True)}
    assert taken["▁fever"] == [1, 2]
    assert taken["▁and"] == [5, 6]
    assert "ev" not in taken
    assert all(token.lstrip("▁") in ("fever", "Fever", "and", "発熱") for token in taken)
    digest = "sha256:" + hashlib.sha256(Path(config.file).read_bytes()).hexdigest()
    assert found.facts == {"sha256": digest, "entries": 5, "taken": len(taken), "width": 2}


def test_a_taggers_words_take_them_too(tmp_path: Path) -> None:
    vocabulary = WordVocabulary.train(TEXTS, GROUPS, VocabularyConfig(min_groups=2))
    found = word_vectors(written(tmp_path, {"cough": [1, 0], "other": [0, 1]}), vocabulary, width=2)
    assert found is not None
    assert found.rows.tolist() == [FIRST_WORD + vocabulary.words.index("cough")]


def test_rows_keep_the_size_that_they_had_and_others_stay(tmp_path: Path) -> None:
    found = token_vectors(written(tmp_path, {"fever": [300, 400], "and": [0, 100]}), tokenizer(), width=2)
    assert found is not None
    embedding = nn.Embedding(tokenizer().vocabulary_size, 2)
    before = embedding.weight.detach().clone()
    start_from(embedding, found)
    after, rows = embedding.weight.detach(), torch.from_numpy(found.rows)
    assert float(after[rows].square().mean()) == pytest.approx(float(before[rows].square().mean()))
    ratio = after[rows] / torch.from_numpy(found.values).clamp_min(1e-9)
    assert torch.allclose(ratio[found.values != 0], ratio[found.values != 0][0])
    others = np.setdiff1d(np.arange(len(before)), found.rows)
    assert torch.equal(after[others], before[others])


@pytest.mark.parametrize(
    ("words", "header", "error", "message"),
    [
        ({"fever": [1, 2, 3]}, None, ConfigError, "network.embedding_size = 2 numbers, got 3"),
        ({"fever": [1, 2]}, "fever 1 2", DataError, "begin with a line of two numbers"),
        ({"fever": [1, 2]}, "3 2", DataError, "must hold the 3 words"),
        ({"and": [1, 2], "fever": [1]}, "2 2", DataError, "line 3"),
        ({"fever": [1, float("nan")]}, None, DataError, "finite numbers in every line, got others in line 2"),
        ({"fever": [1, "x"]}, None, DataError, "line 2"),
        ({"elsewhere": [1, 2]}, None, DataError, "must know words"),
    ],
)
def test_a_file_that_does_not_hold_is_refused_without_its_words(tmp_path, words, header, error, message) -> None:
    config = written(tmp_path, words, header=header)
    with pytest.raises(error, match=message) as refused:
        token_vectors(config, tokenizer(), width=2)
    assert "fever" not in str(refused.value)
    assert "elsewhere" not in str(refused.value)


def test_no_file_is_no_vectors_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    assert token_vectors(VectorsConfig(), tokenizer(), width=2) is None
    for place in (tmp_path, tmp_path / "none.vec"):
        with pytest.raises(ConfigError, match="can be read") as refused:
            token_vectors(VectorsConfig(str(place)), tokenizer(), width=2)
        assert str(tmp_path) not in str(refused.value)


def vectors_of(folder: Path, words: tuple[str, ...], width: int) -> VectorsConfig:
    draw = np.random.default_rng(0)
    return written(folder, {word: draw.normal(size=width).round(3).tolist() for word in words})


def test_a_run_starts_from_them_and_keeps_their_digest_alone(tmp_path: Path) -> None:
    short = replace(CONFIG, pretraining=TextPretrainingConfig(), training=replace(CONFIG.training, max_epochs=1))
    config = replace(short, vectors=vectors_of(tmp_path, ("cough", "murmur", "seen", "limp"), 12))
    found = train_documents(corpus(), config, folder=tmp_path / "run")
    assert found.bundle.corpus["vectors"]["taken"] >= 2
    assert found.bundle.config["vectors"] == {"file": ""}
    kept = b"".join(path.read_bytes() for path in found.artifact.iterdir())
    assert str(tmp_path).encode() not in kept
    assert found.bundle.corpus["vectors"]["sha256"].encode() in kept


def test_pre_training_starts_from_them(tmp_path: Path) -> None:
    still = replace(CONFIG.training, max_epochs=1, learning_rate=1e-9)
    first = TextPretrainingConfig(epochs=1, rows=16, truncation_length=16, learning_rate=1e-9)
    config = replace(CONFIG, pretraining=first, training=still)
    config = replace(config, members=replace(config.members, phrases=False))
    data = build_dataset(corpus(), replace(config, vectors=vectors_of(tmp_path, ("cough", "murmur"), 12)))
    assert data.vectors is not None
    network = next(iter(fit_members(data, config, folder=tmp_path / "run").ensemble))
    rows = network.get_parameter("embedding.weight").detach().numpy()[data.vectors.rows]
    assert np.corrcoef(rows.ravel(), data.vectors.values.ravel())[0, 1] > 0.999


def test_a_tagging_run_starts_from_them(tmp_path: Path) -> None:
    short = replace(TAGGING, training=replace(TAGGING.training, max_epochs=1), baselines=TaggingBaselines(False, False))
    config = replace(short, vectors=vectors_of(tmp_path, ("because", "given"), 8))
    found = train_tagger(made_corpus(held_out=True), config, folder=tmp_path / "run")
    assert found.bundle.corpus["vectors"]["taken"] == 2
    assert found.bundle.config["vectors"] == {"file": ""}
    with pytest.raises(ConfigError, match="word_size"):
        train_tagger(
            made_corpus(held_out=True),
            replace(config, network=replace(config.network, word_size=9)),
            folder=tmp_path / "other",
        )
