import json
import os
import stat
import time
from datetime import UTC, datetime, timedelta

import pytest

from models.errors import ConfigError
from service import keys
from service.keys import ApiKey, KeyRing, Scope, make_key, read_keys, without_key, write_keys


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "keys.json"


@pytest.fixture
def made(path):
    """A key in its file, and what its holder presents."""
    key, presented = make_key("ward-3", [Scope.SCORE])
    write_keys(path, [key])
    return key, presented


def test_the_file_holds_no_secret_and_is_its_owners_alone(path, made):
    key, presented = made
    secret = presented.removeprefix(f"sqk_{key.id}_")
    assert len(secret) >= 43
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["keys.json"]


def test_two_keys_are_never_the_same():
    assert len({make_key("a", [Scope.SCORE])[1] for _ in range(100)}) == 100


def test_a_key_is_read_back_as_it_was_written(path):
    ends, _ = make_key("until", [Scope.ADMIN, Scope.AUDIT], days=1.5, rate="3/second")
    write_keys(path, [ends])
    (again,) = read_keys(path)
    assert again == ends
    assert again.expires - again.created == timedelta(hours=36)


def test_the_holder_of_a_key_is_known_and_nobody_else(path, made):
    key, presented = made
    ring = KeyRing(path)
    assert ring.holder(presented) == key
    other = make_key("other", [Scope.ADMIN])[1]
    wrong = [
        "",
        "sqk",
        "sqk_",
        f"sqk_{key.id}",
        f"sqk_{key.id}_",
        presented[:-1],
        presented + "x",
        presented.upper(),
        presented.replace("sqk", "abc"),
        presented.replace(key.id, "0" * 12),
        other,
        f"sqk_{key.id}_{other.rpartition('_')[2]}",
        f"sqk_{key.id}_{key.digest.hex()}",
        "sqk_\xff_\ud800",
    ]
    assert [w for w in wrong if ring.holder(w) is not None] == []


def test_a_key_that_has_ended_opens_nothing(path, made):
    key, presented = made
    write_keys(path, [ApiKey(**{**_fields(key), "expires": datetime.now(UTC) - timedelta(seconds=1)})])
    assert KeyRing(path).holder(presented) is None
    write_keys(path, [ApiKey(**{**_fields(key), "expires": datetime.now(UTC) + timedelta(hours=1)})])
    assert KeyRing(path).holder(presented) is not None


def _fields(key):
    return {name: getattr(key, name) for name in ApiKey.__slots__}


def test_a_revoked_key_opens_nothing_in_a_running_service(path, made, monkeypatch):
    key, presented = made
    ring = KeyRing(path)
    monkeypatch.setattr(keys, "RECHECK_S", 0.0)
    assert ring.holder(presented) is not None
    second, shown = make_key("second", [Scope.SCORE])
    write_keys(path, [*without_key(read_keys(path), key.id), second])
    assert ring.holder(presented) is None
    assert ring.holder(shown) == second
    assert len(ring) == 1


def test_the_file_is_not_looked_at_for_every_request(path, made, monkeypatch):
    _, presented = made
    ring = KeyRing(path)
    looks = []
    monkeypatch.setattr(keys, "_version", lambda path: looks.append(path))
    for _ in range(1000):
        ring.holder(presented)
    assert len(looks) <= 1 + (time.monotonic() - ring._checked)


def test_a_file_that_an_editor_broke_keeps_the_keys_of_before_and_is_logged(path, made, monkeypatch, caplog):
    _, presented = made
    ring = KeyRing(path)
    monkeypatch.setattr(keys, "RECHECK_S", 0.0)
    path.write_text("{")
    with caplog.at_level("ERROR", logger="service"):
        assert ring.holder(presented) is not None
    assert [r.event for r in caplog.records] == ["keys_unreadable"]
    path.unlink()
    assert ring.holder(presented) is not None


RECORD = make_key("ward", [Scope.SCORE])[0].to_record()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2, "keys": []}',
        '{"schema": 1}',
        json.dumps({"schema": 1, "keys": [{}]}),
        json.dumps({"schema": 1, "keys": [{**RECORD, "scopes": ["root"]}]}),
        json.dumps({"schema": 1, "keys": [{**RECORD, "sha256": "00"}]}),
        json.dumps({"schema": 1, "keys": [{**RECORD, "id": "../x"}]}),
        json.dumps({"schema": 1, "keys": [{**RECORD, "name": "two words"}]}),
        json.dumps({"schema": 1, "keys": [{**RECORD, "created": "2026-01-01T00:00:00"}]}),
        json.dumps({"schema": 1, "keys": [RECORD, RECORD]}),
    ],
)
def test_what_is_no_key_file_is_refused_without_its_content(tmp_path, content):
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="key file must") as caught:
        read_keys(path)
    assert RECORD["sha256"] not in str(caught.value)


def test_a_file_that_everybody_may_write_is_refused(path, made):
    path.chmod(0o646)
    with pytest.raises(ConfigError, match="writable by all"):
        read_keys(path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="keys add"):
        KeyRing(tmp_path / "none.json")


def test_a_key_needs_a_plain_name_and_a_scope():
    with pytest.raises(ConfigError, match="name"):
        make_key("two words", [Scope.SCORE])
    with pytest.raises(ConfigError, match="scopes"):
        make_key("ward", [])


def test_only_a_key_that_is_there_can_be_taken_out(made):
    key, _ = made
    assert without_key([key], key.id) == ()
    with pytest.raises(ConfigError, match="id must"):
        without_key([key], "0" * 12)


def test_a_write_that_fails_leaves_the_file_as_it_was(path, made, monkeypatch):
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_keys(path, [])
    assert path.read_bytes() == before
