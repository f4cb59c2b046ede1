"""The `Accept-Language` header in, the language of the disclaimer out."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "ja"]
HEADER = b"accept-language"
_KNOWN: tuple[Language, ...] = ("en", "ja")
# A header may be as long as the server allows; nobody reads so many languages.
_MOST_RANGES = 20


def preferred_language(header: bytes) -> Language:
    """The one of English and Japanese that a header prefers; English where it names neither.

    Args:
        header: as RFC 9110 has it; a range without a weight that holds is passed over.

    Example:
        >>> preferred_language(b"ja-JP,ja;q=0.9,en;q=0.8"), preferred_language(b"fr, en;q=0.2"), preferred_language(b"")
        ('ja', 'en', 'en')
    """
    if not header:
        return "en"
    weights: dict[str, float] = {}
    for part in header.decode("latin-1").split(",")[:_MOST_RANGES]:
        words, _, parameter = part.partition(";")
        weight = _weight(parameter.strip())
        primary = words.strip().lower().partition("-")[0]
        if weight is not None and primary in (*_KNOWN, "*"):
            weights[primary] = max(weight, weights.get(primary, 0.0))
    found = {language: weights.get(language, weights.get("*", 0.0)) for language in _KNOWN}
    return "ja" if found["ja"] > found["en"] else "en"


def _weight(parameter: str) -> float | None:
    """The weight of a range, 1 where it has none; None where it does not hold."""
    if not parameter:
        return 1.0
    name, _, number = parameter.partition("=")
    digits = number.strip()
    if name.strip().lower() != "q" or not digits.replace(".", "", 1).isdecimal() or len(digits) > 5:
        return None
    weight = float(digits)
    return weight if 0.0 <= weight <= 1.0 else None
