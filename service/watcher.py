"""From the names of models in the settings to what they point to now, asked again and again beside the calls.

Every look is a short process (`service.fetch`) that asks MLflow and downloads what is new, so the process that serves
never holds MLflow itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from models.errors import ArtifactError
from service.logs import Event, log_event, log_failure
from service.model_uri import VersionRefusedError, names_registry, parse_registry_uri
from service.selection import Found, UnreachableError, fetch_command, found_each
from service.settings import Settings, fetch_environment

# Looks yield to requests where both want the same core, and so may take longer than the one at start.
NICENESS = 5
LEAST_TIMEOUT_S = 300.0
# Where looks fail again and again they become this much rarer at most.
MOST_PATIENCE = 16


@dataclass(frozen=True, eq=False)
class Followed:
    """A name of a model, and who is told of it.

    Args:
        model: the name, as the settings give it.
        point: told what it points to.
        refuse: told that it points to nothing that can be had: the version, empty where nobody knows it, and why.
    """

    model: str
    point: Callable[[Found], Awaitable[None]]
    refuse: Callable[[str, str], None]


class Looked(Enum):
    """What came of a look."""

    WELL = auto()
    FAILED = auto()
    UNREACHED = auto()


class Watcher:
    """Follows aliases.

    Args:
        settings: how often to look.
        names: what is followed; a name that cannot move is passed over.
    """

    def __init__(self, settings: Settings, names: Sequence[Followed]) -> None:
        self._settings = settings
        self._names = [name for name in names if _moves(name.model)]
        self._told: dict[Followed, str] = {}
        self._looking = asyncio.Lock()
        self._asked: set[asyncio.Task[Looked]] = set()
        self._next: asyncio.Task[Looked] | None = None

    async def run(self) -> None:
        """Looks until it is cancelled; returns at once where no name can point elsewhere."""
        every, patience = self._settings.watch_s, 1
        while every and self._names:
            await asyncio.sleep(every * patience)
            async with self._looking:
                looked = await self._look()
            patience = 1 if looked is Looked.WELL else min(2 * patience, MOST_PATIENCE)

    async def look(self, *, seconds: float) -> Looked | None:
        """What came of a look that begins now, or after the one that goes on; None where it takes longer than this.

        It then goes on behind. However many ask meanwhile, one more look begins for all of them.
        """
        if self._next is None:
            self._next = task = asyncio.create_task(self._asked_for())
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
        done, _ = await asyncio.wait({self._next}, timeout=seconds)
        return done.pop().result() if done else None

    async def close(self) -> None:
        """Ends the looks that were asked for."""
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)

    async def _asked_for(self) -> Looked:
        async with self._looking:
            self._next = None  # whoever asks from now on may have moved the name since
            return await self._look()

    async def _look(self) -> Looked:
        """Looks where all names point to, by one process."""
        models = list(dict.fromkeys(name.model for name in self._names))
        try:
            found = dict(zip(models, await look_up(self._settings, models), strict=True))
        except Exception as error:  # noqa: BLE001  # the models that answer go on, and the next look may do better
            log_failure(Event.FAILED, error, request_id="")
            return Looked.FAILED
        held = [await self._take(name, found[name.model]) for name in self._names]
        if any(isinstance(one, UnreachableError) for one in found.values()):
            return Looked.UNREACHED
        return Looked.WELL if all(held) else Looked.FAILED

    async def _take(self, name: Followed, found: Found | ArtifactError | UnreachableError) -> bool:
        """Has a name stand for what was found; False if that failed."""
        try:
            if isinstance(found, Exception):
                raise found
            await name.point(found)
        except UnreachableError as error:
            if self._is_news(name, str(error)):
                log_event(Event.REGISTRY_UNREACHABLE, level=logging.WARNING, model=name.model, reason=str(error))
            return False
        except ArtifactError as error:
            if self._is_news(name, str(error)):
                name.refuse(error.version if isinstance(error, VersionRefusedError) else "", str(error))
            return False
        except Exception as error:  # noqa: BLE001  # the model that answers goes on, and the next look may do better
            log_failure(Event.FAILED, error, request_id="")
            return False
        self._told.pop(name, None)
        return True

    def _is_news(self, name: Followed, reason: str) -> bool:
        before, self._told[name] = self._told.get(name), reason
        return before != reason


async def look_up(settings: Settings, models: Sequence[str]) -> list[Found | ArtifactError | UnreachableError]:
    """What names point to, or why that cannot be said; what is found lies in the cache, its digests verified."""
    if not models:
        return []
    process = await asyncio.create_subprocess_exec(
        *fetch_command(settings, *models),
        env=fetch_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    seconds = max(settings.fetch_timeout_s, LEAST_TIMEOUT_S)
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        return [UnreachableError(f"no answer within {seconds:g} s")] * len(models)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return found_each(output, process.returncode or 0, len(models))


def _moves(model: str) -> bool:
    return names_registry(model) and bool(parse_registry_uri(model).alias)
