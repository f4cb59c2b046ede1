"""What a leak guard says: a finding where it holds, an error that names it where it does not."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import RefusedError


class LeakError(RefusedError):
    """Raised when a leak guard does not hold; nothing is saved or registered then.

    Args:
        guard: its name.
        expected: what it must find.
        got: what it found; never a value or an identifier.
        remedy: what to do.
    """

    def __init__(self, guard: str, *, expected: str, got: str, remedy: str) -> None:
        super().__init__(f"leak guard '{guard}' must find {expected}, got {got}; {remedy}")
        self.guard = guard


@dataclass(frozen=True)
class Finding:
    """A guard that holds.

    Args:
        name: of the guard.
        detail: what was looked at, in words with counts.
        passed: always true; the bundle's readers expect it.
    """

    name: str
    detail: str
    passed: bool = True


def require(guard: str, holds: bool, expected: str, got: str) -> None:
    """Refuses what does not hold.

    Raises:
        LeakError: in the guard's name.
    """
    if not holds:
        remedy = "fit it on its own part alone and train again; see docs/leak-guards.md"
        raise LeakError(guard, expected=expected, got=got, remedy=remedy)
