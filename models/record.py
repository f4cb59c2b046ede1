"""Frozen dataclasses to plain JSON or TOML values and back; unknown and missing keys are refused."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar, cast

from models.errors import ConfigError, SequelaError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses, enums, tuples and mappings as values that JSON and TOML hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    return value


def from_plain(cls: type[T], data: Any, *, where: str) -> T:
    """Builds the frozen dataclass `cls` from plain values.

    Args:
        cls: a dataclass whose fields are numbers, text, bool, enums, tuples, dicts or dataclasses.
        data: a mapping of field names to plain values.
        where: how the mapping is called in messages, for example `training`.

    Raises:
        ConfigError: for an unknown key, a missing key or a value of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a table of keys, got {type(data).__name__}; write one key a line")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cast("Any", cls)) if f.init}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ConfigError(
            f"{where} must hold only the keys {', '.join(sorted(fields))}, got {', '.join(map(str, unknown))}; "
            "remove or rename them"
        )
    missing = [
        name
        for name, f in fields.items()
        if name not in data and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where} must hold {', '.join(missing)}, got nothing for it; add the key")
    kwargs = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**kwargs)
    except SequelaError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} must hold values that fit each other, got an error; {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, "a table", value)
        return {str(k): _convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_plain(cast("type[Any]", hint), value, where=where)
    return _convert_scalar(hint, value, where)


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], v, where) for v in value)
    if len(value) != len(args):
        raise _wrong(where, f"a list of {len(args)}", value)
    return tuple(_convert(a, v, where) for a, v in zip(args, value, strict=True))


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(value)
        except ValueError:
            raise ConfigError(
                f"{where} must be one of {', '.join(map(str, hint))}, got {value!r}; choose one of them"
            ) from None
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        return value
    raise _wrong(where, f"of type {hint.__name__}", value)


def _wrong(where: str, expected: str, value: Any) -> ConfigError:
    return ConfigError(f"{where} must be {expected}, got {type(value).__name__} {value!r}; correct the value")
