"""Pieces of texts in, byte-pair and unigram vocabularies out that hold nothing of few people alone.

A learned token is kept only if the texts of enough groups (patients, reports) hold it, so that a name does not
reach the artifact; what has no token is read as bytes.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PAD = 0
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
# The mark of a space is always a token: bytes would lose it in decoding.
SPACE = "▁"
RESERVED = ("<pad>", *BYTES, SPACE)
# Japanese is written without spaces; longer pieces would be whole clauses.
LONGEST_TOKEN = 16
# Separates words where all texts of a group are looked at together; no token holds it.
BETWEEN = "\0"

Pieces = Callable[[str], Iterable[str]]


class SubwordTokenizer:
    """What every trained tokenizer tells of itself; id 0 is padding and never given to text.

    Args:
        tokenizer: normalisation, pieces, sub-words and decoding.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, padding included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens, by id."""
        ids: dict[str, int] = self._tokenizer.get_vocab()
        return tuple(sorted(ids, key=lambda token: ids[token]))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, normalised."""
        return str(self._tokenizer.decode([int(i) for i in ids]))


def assembled(
    model: models.BPE | models.Unigram, normalizer: normalizers.Normalizer, pre_tokenizer: pre_tokenizers.PreTokenizer
) -> Tokenizer:
    """A tokenizer of these parts, which decodes bytes and spaces."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return tokenizer


def pieces_of(
    text: str, normalizer: normalizers.Normalizer, pre_tokenizer: pre_tokenizers.PreTokenizer
) -> Iterator[str]:
    """The normalised text's words."""
    return (word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text)))


def group_texts(texts: Sequence[str], groups: Sequence[str], pieces: Pieces) -> list[str]:
    """All texts of a group as one, its pieces separated by `BETWEEN`; one a group."""
    words: dict[str, list[str]] = defaultdict(list)
    for text, group in zip(texts, groups, strict=True):
        words[group].extend(pieces(text.replace(BETWEEN, " ")))
    return [BETWEEN.join(own) for own in words.values()]


def common_characters(joined: Sequence[str], min_groups: int, room: int) -> frozenset[str]:
    """The `room` characters that most groups' texts hold, of those that at least `min_groups` hold."""
    having = Counter(character for text in joined for character in set(text))
    common = [c for c, number in having.items() if number >= min_groups and c not in (BETWEEN, *RESERVED)]
    return frozenset(sorted(common, key=lambda c: (-having[c], c))[:room])


def held_by_enough(token: str, joined: Sequence[str], min_groups: int) -> bool:
    """Whether the texts of at least `min_groups` groups hold the token."""
    holders = (text for text in joined if token in text)
    return sum(1 for _ in islice(holders, min_groups)) == min_groups


def learn_bpe(joined: Sequence[str], *, room: int, min_groups: int) -> models.BPE:
    """A byte-pair model of at most `room` learned tokens beside the reserved ones.

    Whoever holds a token holds its parts, so that every merge that makes a kept token has its parts kept too.
    """
    trainer = trainers.BpeTrainer(
        vocab_size=room + 1,  # the space is learned too, and is reserved already
        min_frequency=min_groups,
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    learned = _train(models.BPE(), trainer, _readable(joined, common_characters(joined, min_groups, room)))
    ranked = sorted(learned["vocab"], key=lambda token: int(learned["vocab"][token]))
    kept = [t for t in ranked if t not in RESERVED and held_by_enough(t, joined, min_groups)]
    vocabulary = {token: i for i, token in enumerate([*RESERVED, *kept])}
    merges = [(left, right) for left, right in learned["merges"] if left + right in vocabulary]
    return models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True)


def _readable(joined: Sequence[str], common: frozenset[str]) -> list[str]:
    """The texts with `BETWEEN` in place of every character that is not common."""
    return ["".join(c if c in common or c == SPACE else BETWEEN for c in text) for text in joined]


def _train(model: Any, trainer: Any, readable: Sequence[str]) -> dict[str, Any]:
    raw = Tokenizer(model)
    raw.pre_tokenizer = pre_tokenizers.Split(BETWEEN, "removed")
    raw.train_from_iterator(readable, trainer)
    learned: dict[str, Any] = json.loads(raw.to_str())["model"]
    return learned


def learn_unigram(joined: Sequence[str], *, room: int, min_groups: int) -> tuple[models.Unigram, frozenset[str]]:
    """A unigram model of at most `room` learned tokens beside the reserved ones, and the characters it knows.

    The reserved tokens' score is so low that they are taken only where nothing else fits.
    """
    common = common_characters(joined, min_groups, room)
    if not common:
        return _unigram([]), common
    # The trainer never ends where it has to prune single characters, so that it is given room for more than them.
    trainer = trainers.UnigramTrainer(
        vocab_size=max(room, 2 * len(common)) + 16,
        max_piece_length=LONGEST_TOKEN,
        show_progress=False,
        initial_alphabet=sorted(common),
    )
    learned = _train(models.Unigram(), trainer, _readable(joined, common))
    # The trainer adds in an order of its own, so that the last digits differ from run to run.
    scores = {str(token): round(float(score), 4) for token, score in learned["vocab"] if token not in RESERVED}
    lowest = min([*scores.values(), 0.0])
    # A common character always has a token of its own, whatever the trainer pruned.
    whole = {c: scores.get(c, lowest) for c in sorted(common)}
    others = [t for t in sorted(scores, key=lambda t: (-scores[t], t)) if t not in whole]
    kept = [t for t in others if held_by_enough(t, joined, min_groups)][: room - len(whole)]
    return _unigram([*whole.items(), *((t, scores[t]) for t in kept)]), common


def _unigram(learned: Sequence[tuple[str, float]]) -> models.Unigram:
    lowest = min((score for _, score in learned), default=0.0)
    reserved = [(token, lowest - 20.0) for token in RESERVED[:-1]]
    return models.Unigram([*reserved, (SPACE, lowest), *learned], unk_id=PAD, byte_fallback=True)
