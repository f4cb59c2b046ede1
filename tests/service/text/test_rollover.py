"""Models of documents whose names move: the version before answers until the next is verified, and none that is bad."""

import asyncio
import json
import shutil
import threading

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from models.artifact_folder import artifact_digest
from models.errors import ArtifactError
from models.text.task import TextTaskKind
from service.app import create_app
from service.assembly import assembled
from service.audit import AuditLog, NoAudit
from service.errors import Problem
from service.model_uri import artifact_folder
from service.selection import Found, found_each
from service.settings import Settings
from service.text.answering import classify, read_classify
from service.text.models import select_text_models
from tests.service.damaged import damaged
from tests.service.live.served import PATIENCE_S, Served
from tests.service.registry import Registry
from tests.service.text.conftest import save_classifier

URI = "models:/wards@champion"
LABELS = ("surgery", "radiology", "office")
BODY = {"model": "ward", "documents": [{"text": "no fever"}]}


@pytest.fixture
def cache(tmp_path):
    """Versions of a model as the cache holds them, by number: two that hold, and others that shall not answer."""
    one = TextTaskKind.CLASSIFICATION
    made = {
        "1": save_classifier(tmp_path / "1", one, LABELS),
        "2": save_classifier(tmp_path / "2", one, LABELS, seed=4),
        "other labels": save_classifier(tmp_path / "3", one, ("ward", "home")),
    }
    found = {}
    for number, folder in made.items():
        found[number] = Found(number, artifact_digest(folder))
        shutil.copytree(folder, artifact_folder(tmp_path / "cache", found[number].digest))
    found["gone"] = Found("gone", "sha256:" + "0" * 64)
    return found


def settings_of(tmp_path, **limits):
    """Settings under which the first version answers."""
    return Settings(
        text_models=f"ward={tmp_path / '1'}",
        device="cpu",
        cache=tmp_path / "cache",
        trusted_hosts=("testserver",),
        **limits,
    )


def figures(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_version_answers_once_it_is_verified_and_requests_that_were_read_before_keep_theirs(cache, tmp_path):
    settings = settings_of(tmp_path)

    async def work():
        parts = assembled(settings, None, None, NoAudit(), select_text_models(settings))
        texts = parts.texts
        before = read_classify(json.dumps(BODY).encode(), texts.models, settings, "en")
        await texts.rollover.point(texts.models.places[0], cache["2"])
        after = read_classify(json.dumps(BODY).encode(), texts.models, settings, "en")
        answers = [json.loads(classify(asked).content)["model"] for asked in (before, after)]
        parts.changes.background.close()
        return answers

    first, second = asyncio.run(work())
    assert (first["version"], first["digest"]) == (None, cache["1"].digest)
    assert (second["version"], second["digest"]) == ("2", cache["2"].digest)


@pytest.mark.parametrize("bad", ["other labels", "gone"])
def test_a_version_that_shall_not_answer_is_refused_and_said_once(cache, tmp_path, bad):
    settings = settings_of(tmp_path)
    with TestClient(create_app(settings, None, texts=select_text_models(settings))) as client:
        rollover, place = client.app.state.texts.rollover, client.app.state.texts.models.places[0]
        for _ in range(2):
            client.portal.call(rollover.point, place, cache[bad])
        assert client.post("/v1/notes/classify", json=BODY).json()["model"]["digest"] == cache["1"].digest
        (standing,) = client.get("/readyz").json()["text_models"]
        assert standing == {"name": "ward", "model": "", "version": "", "refused": bad}
        assert figures(client.get("/metrics").text)["sequela_text_swaps_total", "refused", "ward"] == 1
        client.portal.call(rollover.point, place, cache["2"])
        (standing,) = client.get("/readyz").json()["text_models"]
        told = figures(client.get("/metrics").text)
    assert (standing["version"], standing["refused"]) == ("2", "")
    assert told["sequela_text_swaps_total", "switched", "ward"] == 1
    infos = [labels for labels in told if labels[0] == "sequela_text_model_info"]
    assert len(infos) == 1
    assert cache["2"].digest in infos[0]


def test_a_change_is_in_the_audit_and_none_happens_that_cannot_be(cache, tmp_path):
    settings = settings_of(tmp_path)
    audit = AuditLog(tmp_path / "audit")

    async def work():
        parts = assembled(settings, None, None, audit, select_text_models(settings))
        texts = parts.texts
        (place,) = texts.models.places
        await texts.rollover.point(place, cache["2"])
        version = place.current.origin.version
        audit.close()
        with pytest.raises(Problem, match="record"):
            await texts.rollover.point(place, cache["1"])
        parts.changes.background.close()
        return version, place.current.origin.version

    assert asyncio.run(work()) == ("2", "2")
    records = [
        json.loads(line) for path in (tmp_path / "audit").glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    assert [(r["event"], r["version"]) for r in records] == [("swapped", "2")]


def test_a_version_that_is_met_by_a_full_queue_is_taken_at_a_later_look(cache, tmp_path):
    settings = settings_of(tmp_path, max_waiting=1)

    async def work():
        parts = assembled(settings, None, None, NoAudit(), select_text_models(settings))
        rollover, (place,) = parts.texts.rollover, parts.texts.models.places
        go_on = threading.Event()
        running = asyncio.create_task(parts.texts.lanes.run(1, go_on.wait))
        await asyncio.sleep(0)
        with pytest.raises(Problem, match="Too many requests wait"):
            await rollover.point(place, cache["2"])
        assert (place.current.origin.version, place.refused) == (None, "")
        go_on.set()
        await running
        await rollover.point(place, cache["2"])
        assert place.current.origin.version == "2"
        parts.changes.background.close()

    asyncio.run(work())


def test_one_process_answers_for_all_names_each_by_itself():
    lines = [b"a warning of MLflow", b'{"version": "2", "digest": "sha256:ab"}', b'{"refused": "no such version"}']
    two = found_each(b"\n".join(lines), 1, 2)
    assert two[0] == Found("2", "sha256:ab")
    assert isinstance(two[1], ArtifactError)
    assert "no such version" in str(two[1])
    three = found_each(b"\n".join([*lines, b'{"unreachable": "TimeoutError"}']), 75, 4)
    kinds = ["Found", "VersionRefusedError", "UnreachableError", "UnreachableError"]
    assert [type(one).__name__ for one in three] == kinds
    assert str(three[3]) == "TimeoutError"
    assert [str(one) for one in found_each(b"", 9, 1)] == ["fetch ended with status 9"]


@pytest.mark.slow
@pytest.mark.timeout(6 * PATIENCE_S)
def test_a_started_service_follows_the_alias_and_refuses_what_does_not_hold(cache, tmp_path):
    del cache
    versions = [tmp_path / "1", tmp_path / "2", damaged(tmp_path / "bad", tmp_path / "2")]
    with Registry(tmp_path / "registry", "wards") as registry:
        numbers = [registry.register(folder, artifact_digest(folder)) for folder in versions]
        registry.point("champion", numbers[0])
        environment = {
            "SEQUELA_MODEL": "none",
            "SEQUELA_TEXT_MODELS": f"ward={URI},nobody=models:/wards/1,again={URI}",
            "MLFLOW_TRACKING_URI": registry.address,
            "SEQUELA_CACHE": str(tmp_path / "own cache"),
        }
        with Served(tmp_path / "1", tmp_path, **environment) as served:
            answered, refused = [], []
            for number in numbers:
                registry.point("champion", number)
                looked = httpx.post(f"{served.address}/v1/admin/models/look", timeout=PATIENCE_S).json()
                refused.append([place["refused"] for place in looked["text_models"]])
                answer = httpx.post(f"{served.address}/v1/notes/classify", json=BODY, timeout=60).json()
                answered.append(answer["model"]["version"])
    assert answered == [numbers[0], numbers[1], numbers[1]]
    assert refused == [["", "", ""], ["", "", ""], [numbers[2], "", numbers[2]]]
