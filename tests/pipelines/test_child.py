"""A child runs within its limits, is tried again after a crash alone, and ends when the runner is stopped."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from models.errors import ConfigError
from pipelines.child import ChildRunner, Limits

FAST = Limits(time_limit_s=20.0, grace_s=5.0, retries=2, backoff_s=0.01)


def _python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def _attempts(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


COUNT_AND_EXIT = "import sys; open(sys.argv[1], 'a').write('x\\n'); sys.exit(int(sys.argv[2]))"
UNTIL_TERM = """
import signal, sys, time
def stop(*_):
    open(sys.argv[1], 'w').write('checkpoint')
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1] + '.ready', 'w').write('x')
time.sleep(60)
"""


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_a_final_status_is_not_tried_again(tmp_path, status):
    log = tmp_path / "log"
    assert ChildRunner().run(_python(COUNT_AND_EXIT, log, status), os.environ, FAST) == status
    assert _attempts(log) == 1


@pytest.mark.parametrize("status", [70, 75, 69])
def test_a_crash_or_interruption_is_tried_again_up_to_the_limit(tmp_path, status):
    log = tmp_path / "log"
    assert ChildRunner().run(_python(COUNT_AND_EXIT, log, status), os.environ, FAST) == status
    assert _attempts(log) == 3


def test_the_wait_before_a_retry_doubles(tmp_path):
    began = time.monotonic()
    limits = Limits(time_limit_s=20.0, retries=2, backoff_s=0.3)
    ChildRunner().run(_python(COUNT_AND_EXIT, tmp_path / "log", 70), os.environ, limits)
    assert time.monotonic() - began >= 0.9


def test_a_retry_that_succeeds_ends_the_run(tmp_path):
    log = tmp_path / "log"
    code = (
        "import sys; f = open(sys.argv[1], 'a+'); f.seek(0); n = len(f.readlines()); f.write('x\\n'); "
        "f.close(); sys.exit(0 if n else 70)"
    )
    assert ChildRunner().run(_python(code, log), os.environ, FAST) == 0
    assert _attempts(log) == 2


def test_a_run_over_its_time_limit_gets_sigterm_and_may_leave_a_checkpoint(tmp_path):
    note = tmp_path / "note"
    limits = Limits(time_limit_s=1.0, grace_s=10.0, retries=0)
    assert ChildRunner().run(_python(UNTIL_TERM, note), os.environ, limits) == 75
    assert note.read_text() == "checkpoint"


def test_a_run_that_ignores_sigterm_is_killed_after_its_grace():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    began = time.monotonic()
    limits = Limits(time_limit_s=0.7, grace_s=0.3, retries=0)
    assert ChildRunner().run(_python(code), os.environ, limits) == -9
    assert time.monotonic() - began < 10


def test_stopping_forwards_sigterm_and_starts_nothing_more(tmp_path):
    note = tmp_path / "note"
    runner = ChildRunner()
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(runner.run(_python(UNTIL_TERM, note), os.environ, FAST)))
    thread.start()
    while not Path(f"{note}.ready").exists():
        time.sleep(0.02)
    runner.stop()
    thread.join(20)
    assert statuses == [75]
    assert note.read_text() == "checkpoint"
    assert runner.run(_python(COUNT_AND_EXIT, tmp_path / "log", 0), os.environ, FAST) is None
    assert not (tmp_path / "log").exists()


def test_stopping_ends_the_wait_before_a_retry(tmp_path):
    runner = ChildRunner()
    statuses = []
    limits = Limits(time_limit_s=20.0, retries=5, backoff_s=60.0)
    command = _python(COUNT_AND_EXIT, tmp_path / "log", 70)
    thread = threading.Thread(target=lambda: statuses.append(runner.run(command, os.environ, limits)))
    thread.start()
    while _attempts(tmp_path / "log") == 0:
        time.sleep(0.02)
    time.sleep(0.3)
    runner.stop()
    thread.join(10)
    assert statuses == [70]


@pytest.mark.parametrize(
    "changes", [{"time_limit_s": 0.0}, {"retries": -1}, {"backoff_s": -1.0}, {"grace_s": float("nan")}]
)
def test_limits_that_no_run_could_keep_are_refused(changes):
    with pytest.raises(ConfigError, match="time limit"):
        Limits(**changes)
