"""The tables of live stays in PostgreSQL, and every statement that touches them.

Identifiers of stays are bytes: they sort by code point whatever the database's encoding and locale, and hold any
character that a sender may choose. A write names in itself all that it builds on, and says by its result whether that
held, so that many writes can share one transaction and one of them cannot undo another.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE live_stays (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        stay_id bytea NOT NULL UNIQUE,
        version bigint NOT NULL,
        created_s double precision NOT NULL,
        updated_s double precision NOT NULL,
        secret bytea NOT NULL
    ) WITH (fillfactor = 70);
    CREATE TABLE live_entries (
        number bigint NOT NULL REFERENCES live_stays ON DELETE CASCADE,
        version bigint NOT NULL,
        at_s double precision NOT NULL,
        payload bytea NOT NULL,
        PRIMARY KEY (number, version)
    );
    CREATE TABLE live_kept (
        scope bytea PRIMARY KEY,
        number bigint NOT NULL REFERENCES live_stays ON DELETE CASCADE,
        body bytea NOT NULL,
        status integer NOT NULL,
        content bytea NOT NULL,
        at_s double precision NOT NULL
    );
    CREATE INDEX live_kept_number ON live_kept (number);
    CREATE INDEX live_kept_at_s ON live_kept (at_s);
    CREATE UNLOGGED TABLE live_states (
        number bigint NOT NULL REFERENCES live_stays ON DELETE CASCADE,
        key text NOT NULL,
        version bigint NOT NULL,
        content bytea NOT NULL,
        PRIMARY KEY (number, key)
    );
    """,
)
"""Script k brings the tables from schema k to schema k + 1; the first one makes them."""

# Any number will do, as long as every replica takes the same one while it prepares the tables.
LOCK = "SELECT pg_advisory_xact_lock(7316205541)"
# The identity tells the store from every other one, whatever its address; a cache that several stores share needs it.
SCHEMA_TABLE = "CREATE TABLE IF NOT EXISTS live_schema (version integer NOT NULL, identity text NOT NULL)"
SCHEMA = "SELECT version, identity FROM live_schema"
FIRST_SCHEMA = "INSERT INTO live_schema VALUES (0, %(identity)s)"
SET_SCHEMA = "UPDATE live_schema SET version = %(version)s"
TOUCH = "UPDATE live_schema SET version = version RETURNING version"

_UNKEPT = "NOT EXISTS (SELECT FROM live_kept WHERE scope = %(scope)s::bytea)"
_KEEP = """
    INSERT INTO live_kept (scope, number, body, status, content, at_s)
    SELECT %(scope)s::bytea, number, %(body)s::bytea, %(status)s::integer, %(content)s::bytea, %(kept_s)s::float8
    FROM head WHERE %(scope)s::bytea IS NOT NULL"""
_ENTER = """
    INSERT INTO live_entries (number, version, at_s, payload)
    SELECT number, version, %(at_s)s::float8, %(payload)s::bytea FROM head"""

CREATE = f"""
WITH head AS (
    INSERT INTO live_stays (stay_id, version, created_s, updated_s, secret)
    SELECT %(stay_id)s::bytea, 1, %(at_s)s::float8, %(at_s)s::float8, %(secret)s::bytea WHERE {_UNKEPT}
    ON CONFLICT (stay_id) DO NOTHING RETURNING number, version
), entry AS ({_ENTER}), answer AS ({_KEEP})
SELECT number FROM head"""  # noqa: S608  # put together from the constants above alone

APPEND = f"""
WITH head AS (
    UPDATE live_stays SET version = version + 1, updated_s = %(at_s)s::float8
    WHERE number = %(number)s::bigint AND version = %(version)s::bigint AND {_UNKEPT} RETURNING number, version
), entry AS ({_ENTER}), answer AS ({_KEEP})
SELECT number FROM head"""  # noqa: S608  # put together from the constants above alone

_HEAD = "SELECT number, stay_id, version, created_s, updated_s, secret FROM live_stays"
HEAD = f"{_HEAD} WHERE stay_id = %(stay_id)s::bytea"
PAGE = f"{_HEAD} WHERE stay_id > %(after)s::bytea ORDER BY stay_id LIMIT %(limit)s::bigint"
COUNT = "SELECT count(*) FROM live_stays"
GONE = """
SELECT n FROM unnest(%(numbers)s::bigint[]) AS n WHERE NOT EXISTS (SELECT FROM live_stays WHERE number = n)"""
ENTRIES = """
SELECT version, at_s, payload FROM live_entries
WHERE number = %(number)s::bigint AND version > %(after)s::bigint ORDER BY version"""
KEPT = "SELECT scope, body, status, content, at_s FROM live_kept WHERE scope = %(scope)s::bytea"

# Held by the connection, so they end with it; nobody waits for one.
CLAIM = "SELECT pg_try_advisory_lock(%(key)s::bigint)"
RELEASE = "SELECT pg_advisory_unlock(%(key)s::bigint)"

DELETE = "DELETE FROM live_stays WHERE number = %(number)s::bigint RETURNING number"
PURGE_KEPT = "DELETE FROM live_kept WHERE at_s < %(before_s)s::float8"
PURGE_STAYS = "DELETE FROM live_stays WHERE updated_s < %(before_s)s::float8 RETURNING number"

LOAD_STATE = "SELECT version, content FROM live_states WHERE number = %(number)s::bigint AND key = %(key)s::text"
SAVE_STATE = """
INSERT INTO live_states (number, key, version, content)
SELECT number, %(key)s::text, %(version)s::bigint, %(content)s::bytea FROM live_stays
WHERE number = %(number)s::bigint FOR KEY SHARE
ON CONFLICT (number, key) DO UPDATE SET version = excluded.version, content = excluded.content
WHERE live_states.version < excluded.version"""
DROP_STATES = "DELETE FROM live_states WHERE number = ANY(%(numbers)s::bigint[])"
