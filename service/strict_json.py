"""From a body's bytes to plain values, refusing what lenient parsers let pass: NaN, duplicate keys, endless depth."""

from __future__ import annotations

from typing import Any

import jiter

from service.errors import Problem, invalid_input

MAX_DEPTH = 201
"""The parser's own bound; a schema without further fields allows far less."""


def read_strict(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        Problem: 422, without the parser's words, which may repeat a key.
    """
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="none")
    except ValueError as error:
        raise not_json(str(error)) from None


def not_json(reason: str) -> Problem:
    """The refusal of a body that is no JSON; what the parser says only chooses between this module's own words."""
    if reason.startswith("Detected duplicate key"):
        return invalid_input([((), "must name every key of an object once")])
    if reason.startswith("recursion limit"):
        return invalid_input([((), f"must be nested at most {MAX_DEPTH} deep")])
    return invalid_input([((), "must be JSON as in RFC 8259, in UTF-8; NaN and Infinity are not, send null")])
