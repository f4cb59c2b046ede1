"""Plain tables in, TOML text out that reads back as the same values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any]) -> str:
    """Tables of text, numbers, booleans, lists and tables as TOML, in their order; a value that is None is left out.

    Example:
        >>> print(to_toml({"name": "m", "training": {"learning_rate": 0.001}}), end="")
        name = "m"
        <BLANKLINE>
        [training]
        learning_rate = 0.001
    """
    return _table(data, ())


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> str:
    values = {k: v for k, v in data.items() if v is not None and not isinstance(v, Mapping)}
    tables = {k: v for k, v in data.items() if isinstance(v, Mapping)}
    lines = [f"{_key(name)} = {_value(value)}\n" for name, value in values.items()]
    if path and (lines or not tables):
        lines.insert(0, f"[{'.'.join(map(_key, path))}]\n")
    parts = ["".join(lines)] if lines else []
    parts += [_table(table, (*path, name)) for name, table in tables.items()]
    return "\n".join(parts)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}"
        case float():
            return repr(value)
        case int():
            return str(value)
        case other:  # a date or a time of the file's own
            return str(other.isoformat())


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for the one character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
