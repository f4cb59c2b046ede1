import asyncio
import json
import logging
import subprocess
import sys
from datetime import datetime

import pytest

from service.logs import Event, JsonFormatter, RequestLines, log_event, log_failure, utc_text


@pytest.fixture
def lines(caplog):
    """Lines that the formatter makes of everything logged since."""
    caplog.set_level(logging.INFO)

    def formatted():
        return [json.loads(JsonFormatter().format(record)) for record in caplog.records]

    return formatted


def test_a_line_holds_the_event_and_allow_listed_fields_alone(lines):
    log_event(Event.REQUEST, route="/v1/score", status=200, stay_id="MARKED")
    (line,) = lines()
    assert (line["event"], line["route"], line["status"], line["level"]) == ("request", "/v1/score", 200, "info")
    assert "MARKED" not in json.dumps(line)


def test_another_librarys_record_keeps_its_name_and_error_type_alone(lines):
    try:
        raise ValueError("MARKED")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("MARKED %s", "MARKED")
    (line,) = lines()
    assert (line["event"], line["logger"], line["error_type"]) == ("third_party", "uvicorn.error", "ValueError")
    assert "MARKED" not in json.dumps(line)


def test_a_failure_says_where_and_not_what(lines):
    try:
        raise ValueError("MARKED")
    except ValueError as error:
        log_failure(Event.FAILED, error, request_id="r")
    (line,) = lines()
    assert line["error_type"] == "ValueError"
    assert line["error_at"].startswith("test_logs.py:")
    assert "MARKED" not in json.dumps(line)


def test_warnings_of_libraries_become_lines_without_their_text():
    code = (
        "from service.logs import configure_logging; import warnings; configure_logging(); "
        "warnings.warn('MARKED'); import logging; logging.getLogger('x').info('MARKED')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["logger"] == "py.warnings"
    assert "MARKED" not in done.stderr


def test_requests_are_logged_together_with_the_time_of_each(caplog):
    lines = RequestLines()

    async def three():
        for status in (200, 404, 500):
            lines.add({"route": "/livez", "status": status, "stay_id": "MARKED"})
        await asyncio.sleep(0.3)

    with caplog.at_level(logging.INFO, logger="service"):
        asyncio.run(three())
    (record,) = caplog.records
    made = [json.loads(line) for line in JsonFormatter().format(record).splitlines()]
    assert [(line["event"], line["status"]) for line in made] == [("request", s) for s in (200, 404, 500)]
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in made)
    assert "MARKED" not in json.dumps(made)


def test_a_flood_of_requests_is_written_before_it_fills_the_memory(caplog):
    lines = RequestLines()

    async def flood():
        for _ in range(2500):
            lines.add({"status": 429})

    with caplog.at_level(logging.INFO, logger="service"):
        asyncio.run(flood())
        lines.flush()
    assert [len(r.lines) for r in caplog.records] == [1000, 1000, 500]


def test_a_time_is_told_to_the_millisecond():
    assert utc_text(0.0625) == "1970-01-01T00:00:00.062+00:00"
    assert datetime.fromisoformat(utc_text(1_767_225_599.999)).year == 2025
