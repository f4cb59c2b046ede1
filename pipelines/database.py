"""From a database's address to an SQLAlchemy engine that waits for locks and notices lost connections."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from models.errors import ConfigError, SequelaError
from pipelines.settings import with_driver

# SQLite has one writer: another process's write is waited for this long.
SQLITE_WAIT_S = 30
CONNECT_WAIT_S = 10
EXIT_UNAVAILABLE = 69  # sysexits' EX_UNAVAILABLE


class DatabaseUnreachableError(SequelaError):
    """Raised when the database does not answer."""

    exit_status = EXIT_UNAVAILABLE


def open_engine(url: str) -> Engine:
    """An engine for SQLite or PostgreSQL.

    Raises:
        ConfigError: if the address cannot be read or is of another database.
    """
    try:
        parsed = make_url(with_driver(url))
    except ArgumentError:
        raise ConfigError(
            "SEQUELA_DATABASE_URL must be an SQLAlchemy address, got one that cannot be read; "
            "write it like sqlite:///sequela.db or postgresql://user@host/name"
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            return create_engine(parsed, connect_args={"timeout": SQLITE_WAIT_S})
        case "postgresql":
            return create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_WAIT_S})
        case other:
            raise ConfigError(f"SEQUELA_DATABASE_URL must be of sqlite or postgresql, got {other!r}; use one of them")
