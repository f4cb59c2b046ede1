"""One holder at a time, on SQLite and on PostgreSQL, across processes; a dead holder's lease expires."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from sqlalchemy import create_engine, text

from models.errors import ConfigError
from pipelines.lease import Lease, LeaseBusyError, LeaseLostError, holder_of

TERM_S = 1.0


@pytest.fixture
def url(database_url):
    return database_url


def test_a_second_holder_is_refused_until_the_first_gives_the_lease_back(url):
    with Lease(url, "job") as first:
        assert holder_of(url, "job") == first.holder
        with pytest.raises(LeaseBusyError, match="must be free") as refused, Lease(url, "job"):
            pass
        assert refused.value.exit_status == 3
    assert holder_of(url, "job") is None
    with Lease(url, "job") as second:
        assert holder_of(url, "job") == second.holder


def test_leases_of_other_names_do_not_block(url):
    with Lease(url, "one"), Lease(url, "two"):
        assert holder_of(url, "one") != holder_of(url, "two")


def test_a_holder_keeps_its_lease_longer_than_one_term(url):
    with Lease(url, "job", seconds=TERM_S) as lease:
        time.sleep(2.5 * TERM_S)
        lease.check()
        with pytest.raises(LeaseBusyError), Lease(url, "job"):
            pass
        assert holder_of(url, "job") == lease.holder


def test_a_killed_holder_blocks_no_longer_than_its_term(url):
    code = f"""
        import time
        from pipelines.lease import Lease
        with Lease({url!r}, "job", seconds=2.0):
            print("held", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    with pytest.raises(LeaseBusyError), Lease(url, "job"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    began = time.monotonic()
    while True:
        try:
            with Lease(url, "job"):
                break
        except LeaseBusyError:
            assert time.monotonic() - began < 10
            time.sleep(0.1)
    assert holder_of(url, "job") is None


def test_a_lost_lease_stops_the_job_and_is_not_taken_back(url):
    lost = threading.Event()
    with Lease(url, "job", seconds=TERM_S, on_lost=lost.set) as lease:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE sequela_lease SET holder = 'another', expires = expires + 1000"))
        engine.dispose()
        assert lost.wait(5)
        with pytest.raises(LeaseLostError, match="must still be held") as stopped:
            lease.check()
        assert stopped.value.exit_status == 75
    assert holder_of(url, "job") == "another"


def test_an_expired_lease_is_lost_even_if_nobody_took_it(url):
    with Lease(url, "job", seconds=60) as lease:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE sequela_lease SET expires = 0"))
        engine.dispose()
        with pytest.raises(LeaseLostError):
            lease.check()
        assert holder_of(url, "job") is None


def _race(url, barrier, wins, release):
    barrier.wait()
    try:
        with Lease(url, "job"):
            wins.put(os.getpid())
            release.wait(20)
    except LeaseBusyError:
        wins.put(0)


def test_of_several_processes_that_start_at_once_exactly_one_wins(url):
    context = multiprocessing.get_context("spawn")
    barrier, wins, release = context.Barrier(4), context.Queue(), context.Event()
    racers = [context.Process(target=_race, args=(url, barrier, wins, release)) for _ in range(4)]
    for racer in racers:
        racer.start()
    results = [wins.get(timeout=60) for _ in racers]
    release.set()
    for racer in racers:
        racer.join()
    wins.close()
    assert sum(r > 0 for r in results) == 1
    assert all(racer.exitcode == 0 for racer in racers)


def test_an_unreachable_database_counts_as_lost_before_the_term_ends(tmp_path):
    lost = threading.Event()
    path = tmp_path / "gone.db"
    with Lease(f"sqlite:///{path}", "job", seconds=TERM_S, on_lost=lost.set):
        began = time.monotonic()
        path.unlink()
        path.mkdir()
        assert lost.wait(10 * TERM_S)
        assert time.monotonic() - began <= 1.3 * TERM_S


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_term_that_cannot_be_renewed_is_refused(tmp_path, seconds):
    with pytest.raises(ConfigError, match="at least 1"):
        Lease(f"sqlite:///{tmp_path / 'x.db'}", "job", seconds=seconds)


@pytest.mark.parametrize("url", ["mysql://u:secret@h/x", "not an address with secret"])
def test_an_address_of_no_known_database_is_refused_without_showing_it(url):
    with pytest.raises(ConfigError, match="SEQUELA_DATABASE_URL") as error:
        Lease(url, "job")
    assert "secret" not in str(error.value)
