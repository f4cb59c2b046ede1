"""An iterator in, the same items out, the next one being made in a thread while one is worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items in the same order; an error comes where it would have come.

    Worth it where making an item releases the interpreter's lock, as decompression does.

    Example:
        >>> list(one_ahead(range(3)))
        [0, 1, 2]
    """
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(_next, iterator)
        while made := upcoming.result():
            upcoming = pool.submit(_next, iterator)
            yield made[0]


def _next(iterator: Iterator[T]) -> tuple[T] | tuple[()]:
    for item in iterator:
        return (item,)
    return ()
