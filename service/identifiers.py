"""Random identifiers of requests and predictions, drawn many at a time: one draw costs as much as ten of them."""

from __future__ import annotations

import os

_DRAWN = 64
_VARIANTS = "89ab"
_ready: list[str] = []


def new_id() -> str:
    """A random UUID (version 4, RFC 9562); from any thread."""
    try:
        return _ready.pop()
    except IndexError:
        fresh = os.urandom(16 * _DRAWN).hex()
        made = [_formed(fresh[i : i + 32]) for i in range(0, len(fresh), 32)]
        _ready.extend(made[1:])
        return made[0]


def _formed(digits: str) -> str:
    variant = _VARIANTS[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
