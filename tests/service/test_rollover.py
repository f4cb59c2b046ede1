"""What a version waits for: one that somebody went back from, and one that nobody had time to warm."""

import asyncio
import shutil
import threading

import pytest

from models.artifact import artifact_digest, load_artifact
from service.assembly import assembled
from service.audit import NoAudit
from service.errors import Problem
from service.model_uri import artifact_folder
from service.selection import Found, Origin, Selected, Source
from service.settings import Settings


@pytest.fixture
def versions(make_artifact, tmp_path):
    """Two versions, as the cache holds them; the first is also in a folder of its own, `1`."""
    found = []
    for number in ("1", "2"):
        made = make_artifact(tmp_path / number, seed=int(number))
        found.append(Found(number, artifact_digest(made)))
        shutil.copytree(made, artifact_folder(tmp_path / "cache", found[-1].digest))
    return found


def parts_of(tmp_path, **limits):
    """A service of the first version."""
    settings = Settings(store="memory:", cache=tmp_path / "cache", **limits)
    selected = Selected(load_artifact(tmp_path / "1"), Origin(Source.REGISTRY, "1"))
    return assembled(settings, selected, None, NoAudit())


async def end(parts):
    await parts.changes.rollover.close()
    parts.changes.background.close()
    await parts.service.inference.drain()


@pytest.mark.parametrize("shadow_min", [0.0, 60.0], ids=["that answered", "that was tried"])
def test_a_version_that_was_left_is_not_taken_again_before_its_name_has_pointed_elsewhere(
    versions, tmp_path, shadow_min
):
    first, second = versions

    async def work():
        parts = parts_of(tmp_path, shadow_min=shadow_min)
        rollover, place = parts.changes.rollover, parts.service.models.champion
        taken = []
        assert not await rollover.go_back(place)
        for step in (second, None, second, first, second):
            if step is None:
                assert await rollover.go_back(place)
            else:
                await rollover.point(place, step)
            taken.append("2" in (place.current.version, place.aside.version if shadow_min and place.aside else ""))
        await end(parts)
        return taken

    assert asyncio.run(work()) == [True, False, False, False, True]


def test_a_version_that_is_met_by_a_full_queue_is_not_refused_but_taken_at_a_later_look(versions, tmp_path):
    async def work():
        parts = parts_of(tmp_path, max_waiting=1)
        rollover, place = parts.changes.rollover, parts.service.models.champion
        go_on = threading.Event()
        running = asyncio.create_task(parts.service.inference.run(go_on.wait))
        await asyncio.sleep(0)
        with pytest.raises(Problem, match="Too many requests wait"):
            await rollover.point(place, versions[1])
        assert (place.current.version, place.aside, place.refused) == ("1", None, "")
        go_on.set()
        await running
        await rollover.point(place, versions[1])
        assert place.current.version == "2"
        await end(parts)

    asyncio.run(work())


def test_a_version_that_cannot_be_noted_answers_all_the_same_and_is_noted_at_a_later_look(versions, tmp_path):
    verified = tmp_path / "cache" / "verified"
    verified.write_text("a file where the folder of notes should be")

    async def work():
        parts = parts_of(tmp_path)
        rollover, place = parts.changes.rollover, parts.service.models.champion
        await rollover.point(place, versions[1])
        assert (place.current.version, place.refused) == ("2", "")
        verified.unlink()
        await rollover.point(place, versions[1])
        await end(parts)

    asyncio.run(work())
    assert len(list(verified.glob("*.json"))) == 1
