"""From the names of models in the settings to what they point to now, asked again and again beside the calls.

Every look is a short process (`service.fetch`) that asks MLflow and downloads what is new, so the process that serves
never holds MLflow itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

from models.errors import ArtifactError
from service.logs import Event, log_event, log_failure
from service.model_uri import names_registry, parse_registry_uri
from service.rollover import Rollover
from service.selection import Found, UnreachableError, fetch_command, found_in
from service.served import Models, Place
from service.settings import Settings, fetch_environment

# Looks yield to requests where both want the same core, and so may take longer than the one at start.
NICENESS = 5
LEAST_TIMEOUT_S = 300.0
# Where looks fail again and again they become this much rarer at most.
MOST_PATIENCE = 16


class Watcher:
    """Follows aliases.

    Args:
        settings: how often to look.
        models: whose names are followed.
        rollover: told what a name points to.
    """

    def __init__(self, settings: Settings, models: Models, rollover: Rollover) -> None:
        self._settings, self._rollover = settings, rollover
        self._places = [place for place in models.places if _moves(place.model)]
        self._told: dict[Place, str] = {}

    async def run(self) -> None:
        """Looks until it is cancelled; returns at once where no name can point elsewhere."""
        every, patience = self._settings.watch_s, 1
        while every and self._places:
            await asyncio.sleep(every * patience)
            held = [await self._look(place) for place in self._places]
            patience = 1 if all(held) else min(2 * patience, MOST_PATIENCE)

    async def _look(self, place: Place) -> bool:
        """Looks where a name points to; False if that failed."""
        try:
            found = await look_up(self._settings, place.model)
            await self._rollover.point(place, found)
        except UnreachableError as error:
            if self._is_news(place, str(error)):
                log_event(Event.REGISTRY_UNREACHABLE, level=logging.WARNING, model=place.model, reason=str(error))
            return False
        except ArtifactError as error:
            if self._is_news(place, str(error)):
                self._rollover.refuse(place, "", str(error))
            return False
        except Exception as error:  # noqa: BLE001  # the model that answers goes on, and the next look may do better
            log_failure(Event.FAILED, error, request_id="")
            return False
        self._told.pop(place, None)
        return True

    def _is_news(self, place: Place, reason: str) -> bool:
        before, self._told[place] = self._told.get(place), reason
        return before != reason


async def look_up(settings: Settings, model: str) -> Found:
    """What a name points to; its artifact then lies in the cache, its digests verified.

    Raises:
        ArtifactError: if MLflow answered and has no such artifact.
        UnreachableError: if it did not answer in time.
    """
    process = await asyncio.create_subprocess_exec(
        *fetch_command(settings, model),
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
        raise UnreachableError(f"no answer within {seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return found_in(output, process.returncode or 0)


def _moves(model: str) -> bool:
    return names_registry(model) and bool(parse_registry_uri(model).alias)
