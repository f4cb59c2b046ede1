"""Normalised words of a window in, the features of each that a linear chain weighs out."""

from __future__ import annotations

from collections.abc import Sequence

from models.text.vocabulary import word_shape

_NEIGHBOURS = (-2, -1, 0, 1, 2)
_AFFIXES = (2, 3, 4)


def word_features(words: Sequence[str]) -> list[list[str]]:
    """For every word: it and two neighbours each way, their shapes, the affixes of the nearest, and pairs of words."""
    lowered = [word.lower() for word in words]
    own = [_own(word, low) for word, low in zip(words, lowered, strict=True)]
    return [_placed(own, lowered, place) for place in range(len(words))]


def _own(word: str, low: str) -> tuple[list[str], list[str]]:
    """A word's features as any neighbour, and those that only the nearest give."""
    affixes = [f"{kind}{n}={part}" for n in _AFFIXES for kind, part in (("p", low[:n]), ("s", low[-n:]))]
    return [f"w={low}", f"shape={word_shape(word)}"], affixes


def _placed(own: Sequence[tuple[list[str], list[str]]], lowered: Sequence[str], place: int) -> list[str]:
    features = ["any"]
    for distance in _NEIGHBOURS:
        at = place + distance
        if not 0 <= at < len(own):
            features.append(f"{distance}:edge")
            continue
        far, near = own[at]
        features += [f"{distance}:{feature}" for feature in (far + near if abs(distance) <= 1 else far)]
    if place > 0:
        features.append(f"before={lowered[place - 1]}|{lowered[place]}")
    if place + 1 < len(lowered):
        features.append(f"behind={lowered[place]}|{lowered[place + 1]}")
    return features
