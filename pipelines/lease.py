"""From a name to the sole right to run a job, on any number of machines: a row in a shared database.

The right expires unless its holder renews it, so a holder that died does not block the next one. Every
comparison of times uses the database's own clock: machines need not agree on the time. A holder that
cannot renew (a lost connection, a paused machine) counts its lease as lost before the database does.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    MetaData,
    String,
    Table,
    cast,
    delete,
    extract,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import ColumnElement

from models.errors import BusyError, ConfigError, RefusedError
from pipelines.database import DatabaseUnreachableError, open_engine

logger = logging.getLogger(__name__)

EXIT_BUSY = 3
EXIT_INTERRUPTED = 75  # sysexits' EX_TEMPFAIL: run it again
RENEWALS_PER_TERM = 4
LEASES = Table(
    "sequela_lease",
    MetaData(),
    Column("name", String(191), primary_key=True),
    Column("holder", String(191), nullable=False),
    Column("expires", Float(53), nullable=False),  # seconds since 1970 by the database's clock
)


class LeaseBusyError(BusyError):
    """Raised when another process holds the lease."""

    exit_status = EXIT_BUSY


class LeaseLostError(RefusedError):
    """Raised when the lease is no longer this process's: the job must stop."""

    exit_status = EXIT_INTERRUPTED


@dataclass
class Lease:
    """A held lease; use it as a context manager.

    Entering raises LeaseBusyError if another process holds it, DatabaseUnreachableError if the database does
    not answer.

    Args:
        url: SQLAlchemy address of an SQLite or PostgreSQL database.
        name: what is held, such as `retrain:icu-mortality`.
        seconds: how long the lease lasts without renewal, at least 1.
        on_lost: called once, from the renewing thread, when the lease is lost.
    """

    url: str
    name: str
    seconds: float = 120.0
    on_lost: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        """Refuses a term that cannot be renewed in time, and readies what renews it."""
        if not self.seconds >= 1.0:
            raise ConfigError(f"lease seconds must be at least 1, got {self.seconds}; give a longer term")
        self._engine = open_engine(self.url)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._lost = threading.Event()
        self._done = threading.Event()
        self._renewed = 0.0
        self._thread = threading.Thread(target=self._renew_until_done, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._renewed = time.monotonic()
        if not self._take():
            raise LeaseBusyError(
                f"lease {self.name!r} must be free, got one that another process holds; "
                "wait for that job to end, or for its lease to expire if it died"
            )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        try:
            with self._engine.begin() as connection:
                connection.execute(delete(LEASES).where(self._mine()))
        except SQLAlchemyError as failure:
            # The lease expires by itself: failing to give it back early must not fail a finished job.
            logger.warning("the lease could not be given back (%s); it expires by itself", type(failure).__name__)
        finally:
            self._engine.dispose()

    @property
    def holder(self) -> str:
        """Machine, process and a random part: who holds the lease."""
        return self._holder

    def check(self) -> None:
        """Renews the lease now; call it before anything that others can see.

        Raises:
            LeaseLostError: if the lease is no longer this process's.
        """
        if self._lost.is_set() or not self._renew():
            self._lost.set()
            raise LeaseLostError(
                f"lease {self.name!r} must still be held, got one that expired or was taken over; "
                "start the job again, it resumes from its checkpoint"
            )

    def _renew_until_done(self) -> None:
        while not self._done.wait(self.seconds / RENEWALS_PER_TERM):
            if not self._renew() and not self._done.is_set():
                self._lost.set()
                logger.error("the lease is lost; the job stops")
                self.on_lost()
                return

    def _renew(self) -> bool:
        """Whether the lease is still held; an unreachable database counts as held until the term ends."""
        began = time.monotonic()
        try:
            with self._engine.begin() as connection:
                now = _now(connection)
                renewal = update(LEASES).where(self._mine(), LEASES.c.expires > now)
                renewed = connection.execute(renewal.values(expires=now + self.seconds)).rowcount == 1
        except SQLAlchemyError as failure:
            logger.warning("the lease could not be renewed (%s)", type(failure).__name__)
            return time.monotonic() - self._renewed < self.seconds * (1 - 1 / RENEWALS_PER_TERM)
        if renewed:
            self._renewed = began
        return renewed

    def _take(self) -> bool:
        """Takes a free or expired lease; one statement each, so that two processes cannot both succeed."""
        try:
            _create_table(self._engine)
            with self._engine.begin() as connection:
                expires = _now(connection) + self.seconds
                expired = update(LEASES).where(LEASES.c.name == self.name, LEASES.c.expires <= _now(connection))
                if connection.execute(expired.values(holder=self._holder, expires=expires)).rowcount == 1:
                    return True
            with self._engine.begin() as connection:
                row = {"name": self.name, "holder": self._holder, "expires": _now(connection) + self.seconds}
                connection.execute(insert(LEASES).values(row))
            return True
        except IntegrityError:
            self._engine.dispose()
            return False
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise DatabaseUnreachableError(
                f"lease database must answer, got {type(error).__name__}; check SEQUELA_DATABASE_URL and the server"
            ) from error

    def _mine(self) -> ColumnElement[bool]:
        return (LEASES.c.name == self.name) & (LEASES.c.holder == self._holder)


def _create_table(engine: Engine) -> None:
    """Creates the table where it is missing, also when several processes do so at once."""
    for remaining in (1, 0):
        try:
            with engine.begin() as connection:
                connection.execute(CreateTable(LEASES, if_not_exists=True))
            return
        except IntegrityError:
            # PostgreSQL's IF NOT EXISTS is not atomic: the loser of a race sees its catalogue's unique key.
            if not remaining:
                raise


def _now(connection: Connection) -> ColumnElement[float]:
    """The database's clock as an expression, in seconds since 1970."""
    if connection.dialect.name == "sqlite":
        return cast((func.julianday("now") - 2440587.5) * 86400.0, Float)
    return cast(extract("epoch", func.clock_timestamp()), Float(53))


def holder_of(url: str, name: str) -> str | None:
    """Who holds the lease now; None if it is free."""
    engine = open_engine(url)
    try:
        _create_table(engine)
        with engine.connect() as connection:
            found = select(LEASES.c.holder).where(LEASES.c.name == name, LEASES.c.expires > _now(connection))
            return connection.execute(found).scalar_one_or_none()
    finally:
        engine.dispose()
