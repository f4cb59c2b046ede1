"""`python -m service keys` and `audit`, and `sequela audit`, as an operator runs them."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.cli import COMMANDS
from service import commands
from service.audit import AuditEvent, AuditLog
from service.keys import KeyRing, Scope


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "keys.json"
    monkeypatch.setenv("SEQUELA_KEYS", str(path))
    return path


@pytest.fixture
def chain(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQUELA_CACHE", str(tmp_path))
    monkeypatch.delenv("SEQUELA_AUDIT")
    log = AuditLog(tmp_path / "audit")
    log.record(AuditEvent.STARTED)
    log.record(AuditEvent.STOPPED)
    log.close()
    return tmp_path / "audit", log.head[1]


def add(*more):
    return commands.main(["keys", "add", "--name", "ward-3", "--scopes", "score, audit", *more])


def test_a_key_is_shown_once_and_opens_what_was_asked_for(key_file, capsys):
    assert add("--days", "2", "--rate", "9/second") == 0
    out, err = capsys.readouterr()
    (shown,) = out.splitlines()
    assert shown not in err
    key = KeyRing(key_file).holder(shown)
    assert (key.name, key.scopes, key.rate) == ("ward-3", {Scope.SCORE, Scope.AUDIT}, "9/second")
    assert (key.expires - key.created).days == 2
    assert commands.main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert key.id in listed
    assert key.digest.hex() not in listed
    assert shown.rpartition("_")[2] not in listed


def test_with_json_the_last_line_is_one_object(key_file, capsys):
    assert add("--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert KeyRing(key_file).holder(made["key"]).id == made["id"]
    assert commands.main(["keys", "list", "--json"]) == 0
    assert [k["id"] for k in json.loads(capsys.readouterr().out)["keys"]] == [made["id"]]
    assert commands.main(["keys", "revoke", made["id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"revoked": made["id"]}


def test_a_revoked_key_is_gone_and_the_others_stay(key_file, capsys):
    add()
    first = capsys.readouterr().out.strip()
    add()
    second = capsys.readouterr().out.strip()
    assert commands.main(["keys", "revoke", first.split("_")[1]]) == 0
    ring = KeyRing(key_file)
    assert ring.holder(first) is None
    assert ring.holder(second) is not None
    assert commands.main(["keys", "revoke", first.split("_")[1]]) == 1


def test_keys_made_at_the_same_time_are_all_kept(key_file):
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: add("--json"), range(16))) == {0}
    assert len(KeyRing(key_file)) == 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "ward", "--scopes", "root"], "scopes must"),
        (["--name", "ward", "--scopes", ""], "scopes must"),
        (["--name", "two words", "--scopes", "score"], "name must"),
        (["--name", "ward", "--scopes", "score", "--rate", "many"], "rate must"),
    ],
)
def test_a_wrong_wish_is_refused_and_makes_no_key(key_file, capsys, arguments, said):
    assert commands.main(["keys", "add", *arguments, "--json"]) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert said in json.loads(out)["refused"]
    assert not key_file.exists()


def test_without_a_file_of_keys_the_command_says_which_variable_names_it(monkeypatch, capsys):
    monkeypatch.delenv("SEQUELA_KEYS", raising=False)
    assert commands.main(["keys", "list"]) == 1
    assert "SEQUELA_KEYS" in capsys.readouterr().err


def test_a_whole_chain_is_said_to_be_whole(chain, capsys):
    folder, head = chain
    assert commands.main(["audit", "verify"]) == 0
    assert "records 1 to 2" in (said := capsys.readouterr().out)
    assert head in said
    assert commands.main(["audit", "verify", "--folder", str(folder), "--expect", head, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == {"whole": True, "chains": [{"folder": str(folder), "first": 1, "last": 2, "head": head}]}


def test_a_broken_chain_ends_with_status_one(chain, capsys):
    folder, _ = chain
    path = folder / "audit-000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"stopped", b"started"))
    assert commands.main(["audit", "verify", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["whole"], result["chains"][0]["last"]) == (False, 1)
    assert commands.main(["audit", "verify"]) == 1
    assert "breaks after record 1" in capsys.readouterr().out


def test_a_chain_whose_records_were_all_taken_away_is_not_whole(chain, capsys):
    (chain[0] / "audit-000001.jsonl").write_bytes(b"")
    assert commands.main(["audit", "verify"]) == 1
    assert "records 0 to 0; head ; the chain breaks after record 0: there is no record" in capsys.readouterr().out


def test_where_the_audit_is_off_a_folder_must_be_named(monkeypatch, capsys):
    monkeypatch.setenv("SEQUELA_AUDIT", "off")
    assert commands.main(["audit", "verify"]) == 1
    assert "SEQUELA_AUDIT" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["-m", "service", "audit"], ["-m", "pipelines.cli", "audit"]])
def test_both_commands_verify_and_give_the_same_status(chain, tmp_path, command):
    folder, head = chain
    for expected, status in ((head, 0), ("0" * 64, 1)):
        done = subprocess.run(
            [sys.executable, *command, "verify", "--json", "--expect", expected, "--folder", str(folder)],
            env={**os.environ, "SEQUELA_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["whole"] is (status == 0)


def test_the_commands_do_not_wait_for_torch():
    code = "import sys; from service import __main__, commands; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "uvicorn", "mlflow"} & set(loaded) == set()


def test_the_console_command_lists_the_audit():
    assert "audit" in COMMANDS
