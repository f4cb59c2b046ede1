"""The service as a process against its own OpenAPI: generated calls of every operation, answered as it says."""

import contextlib
import json
import os
import subprocess
import sys

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode, checks

from models.text.task import TextTaskKind
from service.keys import Scope, make_key, write_keys
from tests.service.text.conftest import save_classifier, save_tagger

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.ignored_auth,
    checks.use_after_free,
]
BOUNDED = hypothesis_settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LINES = "application/x-ndjson"
# An open stream ends when its stay does: it has tests of its own.
STREAMS = r"/events$"


@schemathesis.serializer(LINES)
def as_lines(context, value):
    """A list as one JSON text a line; anything else as itself, which no schema of lines accepts."""
    items = value if isinstance(value, list) else [value]
    return b"\n".join(json.dumps(item).encode() for item in items)


@pytest.fixture(scope="module")
def service(artifact, tmp_path_factory):
    """Address of a started service, and the header by which everything is allowed."""
    folder = tmp_path_factory.mktemp("openapi")
    key, shown = make_key("everything", list(Scope), rate="1000000/second")
    write_keys(folder / "keys.json", [key])
    ward = save_classifier(folder / "ward", TextTaskKind.CLASSIFICATION, ("surgery", "radiology"))
    environment = {
        "SEQUELA_MODEL": str(artifact),
        "SEQUELA_PORT": "0",
        "SEQUELA_DEVICE": "cpu",
        "SEQUELA_CACHE": str(folder / "cache"),
        "SEQUELA_KEYS": str(folder / "keys.json"),
        "SEQUELA_TEXT_MODELS": f"ward={ward},entities={save_tagger(folder / 'entities')}",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "service"], env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )
    with process.stderr as lines:
        listening = next(line for line in map(json.loads, lines) if line["event"] == "listening")
        drained = subprocess.Popen(["cat"], stdin=lines, stdout=subprocess.DEVNULL)
        address = f"http://127.0.0.1:{listening['port']}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            client.get(f"{address}/readyz", timeout=240)
        yield address, {"Authorization": f"Bearer {shown}"}
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        drained.wait(20)


def test_every_answer_to_generated_calls_is_one_that_the_schema_names(service):
    address, headers = service
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", config=config).exclude(path_regex=STREAMS)
    called = {}
    for operation in (found.ok() for found in schema.get_all_operations()):
        called[operation.label] = 0
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and not can_be_wrong(operation):
                continue

            @given(case=operation.as_strategy(generation_mode=mode))
            @BOUNDED
            def call(case):
                called[case.operation.label] += 1
                case.call_and_validate(headers=headers, checks=CHECKS, timeout=60)

            call()
    assert len(called) >= 6
    assert min(called.values()) > 0


def can_be_wrong(operation):
    """Whether a call can break an operation's schema: not without input, and of many lines each has its own answer."""
    lines = any(body.media_type == LINES for body in operation.body)
    return not lines and bool(operation.body or operation.query or operation.path_parameters)
