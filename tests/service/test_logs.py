import json
import logging
import subprocess
import sys

import pytest

from service.logs import Event, JsonFormatter, log_event, log_failure


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
