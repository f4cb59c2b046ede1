"""`python -m pipelines.schedule_health CONFIG`: exit status 0 while the schedule's next run lies ahead, else 1.

A scheduler that lives moves the next time on at the moment it starts a run; one that hangs, or lost its
database, lets it pass.
"""

from __future__ import annotations

import sys
import time
import tomllib
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from pipelines.database import open_engine
from pipelines.schedule import job_table
from pipelines.settings import Settings

# A scheduler that has just come back catches up what it missed within this time.
LATE_S = 120.0


def next_run(name: str, settings: Settings) -> float | None:
    """When a model's next run begins, in seconds since 1970; None where no run is stored.

    Raises:
        SQLAlchemyError: if the database does not answer or holds no schedule of this model.
    """
    engine = open_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            query = text(f'SELECT next_run_time FROM "{job_table(name)}" WHERE id = :id')  # noqa: S608 - letters and _
            found = connection.execute(query, {"id": name}).scalar()
            return None if found is None else float(found)
    finally:
        engine.dispose()


def main(arguments: list[str]) -> int:
    """Checks the schedule of one configuration's model; says on standard error what is wrong."""
    name = str(tomllib.loads(Path(arguments[0]).read_text(encoding="utf-8"))["name"])
    try:
        due = next_run(name, Settings.from_environment())
    except SQLAlchemyError as error:
        sys.stderr.write(f"the schedule of {name} cannot be read: {type(error).__name__}\n")
        return 1
    if due is None or due < time.time() - LATE_S:
        sys.stderr.write(f"the schedule of {name} is not moving on\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
