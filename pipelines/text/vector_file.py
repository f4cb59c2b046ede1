"""A local `.vec` file of word or character vectors in, the rows of an embedding that it knows out, and its digest.

The text format of word2vec and fastText: a line with the number of words and their width, then a line a word with its
numbers, separated by spaces, UTF-8. The file is read once, line by line; what is kept are the words that are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.errors import ConfigError, DataError
from models.stay import Ints
from models.text.network import TextNetwork
from models.text.subwords import RESERVED, SPACE
from models.text.tokenizer import TextTokenizer
from models.text.vocabulary import FIRST_WORD, WordVocabulary


@dataclass(frozen=True)
class VectorsConfig:
    """Vectors from elsewhere, from which the embedding of words, or of Japanese characters, starts.

    Args:
        file: a `.vec` file on this machine; empty = none. Its digest is recorded, its place is not.
    """

    file: str = ""


@dataclass(frozen=True)
class Vectors:
    """What a file knows of an embedding.

    Args:
        rows: (known,) int64 rows of the embedding.
        values: (known, width) float32 vectors of them, as the file has them.
        sha256: digest of the file.
        entries: words in the file.
    """

    rows: Ints
    values: NDArray[np.float32]
    sha256: str
    entries: int

    @property
    def facts(self) -> dict[str, Any]:
        """What the artifact says of them."""
        return {"sha256": self.sha256, "entries": self.entries, "taken": len(self.rows), "width": self.values.shape[1]}


def token_vectors(config: VectorsConfig, tokenizer: TextTokenizer, *, width: int) -> Vectors | None:
    """Vectors of a tokenizer's tokens that are words, or stretches of text in a script without spaces.

    A token within a word of Latin letters is no word, whatever the file has under its letters; bytes are none either.

    Raises:
        ConfigError: if the vectors are of another width, or the file cannot be read.
        DataError: if the file is no such file, or knows none of the tokens.
    """
    return _vectors(config, dict(_token_forms(tokenizer)), width=width, key="network.embedding_size")


def word_vectors(config: VectorsConfig, vocabulary: WordVocabulary, *, width: int) -> Vectors | None:
    """Vectors of a tagger's known words; raises as `token_vectors` does."""
    forms = {FIRST_WORD + number: word for number, word in enumerate(vocabulary.words)}
    return _vectors(config, forms, width=width, key="network.word_size")


@torch.no_grad()
def start_from(embedding: nn.Embedding, vectors: Vectors | None) -> None:
    """Puts vectors into the embedding's rows, scaled by one factor to the size of the random ones that they replace."""
    if vectors is None:
        return
    rows, values = torch.from_numpy(vectors.rows), torch.from_numpy(vectors.values)
    size = values.square().mean().sqrt().clamp_min(1e-12)
    embedding.weight[rows] = values * (embedding.weight[rows].square().mean().sqrt() / size)


def started(network: TextNetwork, vectors: Vectors | None) -> TextNetwork:
    """The network, its embedding started from vectors; unchanged without any."""
    start_from(network.embedding, vectors)
    return network


def without_place(plain: dict[str, Any]) -> dict[str, Any]:
    """A run's tables as an artifact keeps them: without the place of a file on the machine that trained it."""
    return {**plain, "vectors": {**plain["vectors"], "file": ""}}


def vector_facts(vectors: Vectors | None) -> dict[str, Any]:
    """What an artifact says of the vectors, under one key; nothing without any."""
    return {} if vectors is None else {"vectors": vectors.facts}


def digest_of(vectors: Vectors | None) -> str:
    """By which a checkpoint knows the vectors that its run started from."""
    return "" if vectors is None else vectors.sha256


def _token_forms(tokenizer: TextTokenizer) -> Iterator[tuple[int, str]]:
    for number, token in enumerate(tokenizer.vocabulary):
        word = token.removeprefix(SPACE)
        if token not in RESERVED and (token.startswith(SPACE) or not word.isascii() or len(word) == 1):
            yield number, word


def _vectors(config: VectorsConfig, forms: Mapping[int, str], *, width: int, key: str) -> Vectors | None:
    if not config.file:
        return None
    wanted = {spelt.encode("utf-8", "surrogatepass") for form in forms.values() for spelt in (form, form.lower())}
    path = Path(config.file)
    try:
        found, digest, entries = _read(path, wanted, width=width, key=key)
    except OSError:
        raise ConfigError("vectors.file must be a file that can be read, got none; check the path") from None
    rows, values = [], []
    for row, form in forms.items():
        vector = _first(found, form, form.lower())
        if vector is not None:
            rows.append(row)
            values.append(vector)
    if not rows:
        raise DataError(
            f"vectors.file must know words of the training texts, got none of {len(forms):,}; "
            "take a file of the texts' language"
        )
    return Vectors(np.array(rows, dtype=np.int64), np.stack(values), digest, entries)


def _first(found: Mapping[bytes, NDArray[np.float32]], *forms: str) -> NDArray[np.float32] | None:
    known = (found.get(form.encode("utf-8", "surrogatepass")) for form in forms)
    return next((vector for vector in known if vector is not None), None)


def _read(path: Path, wanted: set[bytes], *, width: int, key: str) -> tuple[dict[bytes, NDArray[np.float32]], str, int]:
    """The wanted words' vectors, the file's digest and its number of words; of a word twice the first stays."""
    found: dict[bytes, NDArray[np.float32]] = {}
    digest, number = hashlib.sha256(), 0
    with path.open("rb") as file:
        header = file.readline()
        digest.update(header)
        entries = _entries(header.split(), width=width, key=key)
        for number, line in enumerate(file, start=1):
            digest.update(line)
            word, *numbers = line.rstrip().rsplit(b" ", width)
            if len(numbers) != width or not word:
                raise _wrong_line(number + 1, f"a word and {width} numbers")
            if word in wanted and word not in found:
                found[word] = _numbers(numbers, number + 1)
    if number != entries:
        raise DataError(
            f"vectors.file must hold the {entries:,} words of its first line, got {number:,}; fetch the file again"
        )
    return found, "sha256:" + digest.hexdigest(), entries


def _entries(header: Sequence[bytes], *, width: int, key: str) -> int:
    if len(header) != 2 or not all(part.isdigit() for part in header):
        raise DataError(
            "vectors.file must begin with a line of two numbers, words and width, got another line; give a .vec file "
            "of word2vec or fastText in text form"
        )
    if int(header[1]) != width:
        raise ConfigError(
            f"vectors.file must hold vectors of {key} = {width} numbers, got {int(header[1])}; set {key} to that"
        )
    return int(header[0])


def _numbers(numbers: Sequence[bytes], line: int) -> NDArray[np.float32]:
    try:
        vector = np.array([float(part) for part in numbers], dtype=np.float32)
    except ValueError:
        raise _wrong_line(line, "numbers behind the word") from None
    if not np.isfinite(vector).all():
        raise _wrong_line(line, "finite numbers")
    return vector


def _wrong_line(line: int, expected: str) -> DataError:
    return DataError(f"vectors.file must hold {expected} in every line, got others in line {line:,}; correct the file")
