"""How far a long piece of work is, as a bar on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """A bar that is there only where it is shown.

    Args:
        title: what is worked on.
        total: amount of work.
        unit: unit of the work, for example `file` or `B` (bytes).
        show: whether to show the bar.
    """

    def __init__(self, title: str, *, total: int, unit: str, show: bool) -> None:
        self.done = 0
        self._bar: tqdm[Any] | None = None
        if show:
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=title, unit=unit, unit_scale=unit == "B", mininterval=0.2)

    def to(self, done: int, note: str = "") -> None:
        """Says how much is done in all, with a note behind the bar."""
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self.done)
        self.done = done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
