"""A configuration and a cron expression in, `sequela retrain` by the clock out, until SIGTERM.

The next time is kept in the database, so that a time that passed while no scheduler ran is caught up once.
Every run is a process of its own: its memory is freed, its crash is its own, and its lease keeps runs on
other machines out.

APScheduler 3 stores a job's state as a pickle. The state holds names and numbers alone and the function by
its text reference, and neither a model nor its loading touches it; but who can write to this database can
run code in the scheduler. Give it the same care as the scheduler's own machine.
"""

from __future__ import annotations

import logging
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.blocking import BlockingScheduler

from pipelines.child import ChildRunner, Limits
from pipelines.cron import cron_trigger
from pipelines.database import open_engine
from pipelines.settings import Settings

logger = logging.getLogger(__name__)

# The job store calls a function by its name and hands it plain values, so what it shares with the signal
# handler must be reachable from the module.
_RUNNER = ChildRunner()


@dataclass(frozen=True)
class Schedule:
    """What runs when.

    Args:
        name: the model's name; names the job and its table.
        config: the configuration file, absolute.
        cron: five fields, as in crontab(5).
        timezone: IANA name.
        limits: time limit, grace, retries and backoff of a run.
    """

    name: str
    config: Path
    cron: str
    timezone: str = "UTC"
    limits: Limits = field(default_factory=Limits)

    def arguments(self) -> dict[str, Any]:
        """What the job store keeps; another schedule has other arguments."""
        return {"config": str(self.config), "cron": self.cron, "timezone": self.timezone, **asdict(self.limits)}


def run_job(*, config: str, cron: str, timezone: str, **limits: Any) -> None:
    """One scheduled run; the job store calls it by name."""
    logger.info("scheduled run of %s (%s, %s)", config, cron, timezone)
    command = [sys.executable, "-m", "pipelines", "retrain", "--config", config, "--json", "--quiet"]
    status = _RUNNER.run(command, Settings.from_environment().environment(), Limits(**limits))
    logger.info("scheduled run of %s ended with status %s", config, status)


def serve_schedule(schedule: Schedule, settings: Settings) -> None:
    """Runs the schedule until SIGTERM or SIGINT; a run in progress then gets SIGTERM and its grace.

    Raises:
        ConfigError: if the cron expression, the time zone or the database address cannot be read.
    """
    scheduler = build_scheduler(schedule, settings)
    with _stopping(scheduler):
        scheduler.start()


def build_scheduler(schedule: Schedule, settings: Settings) -> BlockingScheduler:
    """A scheduler whose job is stored; a stored job that has not changed keeps its next time, even one passed."""
    trigger = cron_trigger(schedule.cron, schedule.timezone)
    scheduler = BlockingScheduler(timezone=schedule.timezone)
    store = SQLAlchemyJobStore(engine=open_engine(settings.database_url), tablename=job_table(schedule.name))
    scheduler.add_jobstore(store)
    store.start(scheduler, "default")
    stored = store.lookup_job(schedule.name)
    # Adding it again would compute the next time anew and so forget one that was missed.
    if stored is None or stored.kwargs != schedule.arguments():
        scheduler.add_job(
            "pipelines.schedule:run_job",
            trigger,
            kwargs=schedule.arguments(),
            id=schedule.name,
            name=f"retrain {schedule.name}",
            replace_existing=True,
            coalesce=True,
            misfire_grace_time=None,
            max_instances=1,
        )
    return scheduler


def job_table(name: str) -> str:
    """The table of a model's job.

    Example:
        >>> job_table("mortality-2012")
        'sequela_schedule_mortality_2012'
    """
    return "sequela_schedule_" + re.sub(r"\W", "_", name)


@contextmanager
def _stopping(scheduler: BlockingScheduler) -> Iterator[None]:
    """SIGTERM and SIGINT stop the child, then the scheduler."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # In a thread: the handler interrupts the scheduler anywhere, perhaps while it holds its own locks.
        threading.Thread(target=stop_all, name="stop", daemon=True).start()

    def stop_all() -> None:
        _RUNNER.stop()
        while not scheduler.running:  # the signal came before the scheduler had started
            time.sleep(0.05)
        scheduler.shutdown(wait=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
