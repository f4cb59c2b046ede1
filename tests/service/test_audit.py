"""The audit as a file: what a record holds, what breaks the chain, and what a crash leaves."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.errors import ConfigError, DataError
from service import audit_chain
from service.audit import AuditEvent, AuditLog, NoAudit, StaySeal
from service.audit_chain import GENESIS, files_of, verify
from service.errors import Problem

SEAL = StaySeal("TARO-YAMADA", b"k" * 32)
VALUE = 73.7310911
FACTS = {
    "request_id": "6f1c2b1e-3f0a-4c53-9b1f-0d6a6c1b2a3d",
    "key": "abcdef012345",
    "digest": "sha256:" + "a" * 64,
    "version": "3",
    "prediction_id": "00000000-0000-4000-8000-000000000000",
    "revision": 5,
    "as_of_min": 720,
}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


def write(folder, count=3, **facts):
    log = AuditLog(folder)
    for _ in range(count):
        log.record(AuditEvent.OBSERVED, **{**FACTS, **facts})
    log.close()
    return log


def lines(folder):
    return [line for path in files_of(folder) for line in path.read_bytes().splitlines()]


def records(folder):
    return [json.loads(line) for line in lines(folder)]


def test_records_follow_each_other_and_the_chain_verifies(folder):
    log = write(folder)
    found = records(folder)
    assert [r["seq"] for r in found] == [1, 2, 3]
    assert [r["prev"] for r in found] == [GENESIS, found[0]["hash"], found[1]["hash"]]
    assert found[0].items() >= {**FACTS, "event": "observed"}.items()
    verdict = verify(folder)
    assert (verdict.first, verdict.records, verdict.head, verdict.fault) == (1, 3, found[2]["hash"], "")
    assert log.head == (3, found[2]["hash"])


def test_another_start_goes_on_where_the_chain_ended(folder):
    write(folder, 2)
    write(folder, 2)
    assert [r["seq"] for r in records(folder)] == [1, 2, 3, 4]
    assert verify(folder).fault == ""


def test_a_record_of_a_stay_holds_macs_that_only_its_key_can_make_again(folder):
    change = json.dumps({"value": VALUE}).encode()
    write(folder, 1, stay=SEAL, change=change, risks=(0.25, 0.5))
    (record,) = records(folder)
    assert record["stay"] == hmac.new(SEAL.secret, b"stay\0TARO-YAMADA", hashlib.sha256).hexdigest()
    assert record["change"] == hmac.new(SEAL.secret, b"change\0" + change, hashlib.sha256).hexdigest()
    assert record["answer"] == SEAL.answer((0.25, 0.5)) != SEAL.answer((0.25, 0.5000001))
    text = files_of(folder)[0].read_text()
    assert [secret for secret in ("TARO", "7310911", "0.25", SEAL.secret.decode()) if secret in text] == []
    other = StaySeal("TARO-YAMADA", b"l" * 32)
    assert {other.stay, other.change(change), other.answer((0.25, 0.5))} & set(record.values()) == set()


def test_a_record_without_a_stay_holds_nothing_of_what_was_sent_or_answered(folder):
    write(folder, 1, change=b"73.73", risks=(0.25,), counts={"observations": 6})
    (record,) = records(folder)
    assert set(record) == {"prev", "seq", "time", "event", "counts", "hash", *FACTS}


CHANGES = {
    "a changed figure": lambda lines: [lines[0], lines[1].replace(b'"revision":5', b'"revision":6'), *lines[2:]],
    "a removed line": lambda lines: [lines[0], *lines[2:]],
    "a doubled line": lambda lines: [lines[0], lines[1], lines[1], *lines[2:]],
    "exchanged lines": lambda lines: [lines[1], lines[0], *lines[2:]],
    "a foreign line": lambda lines: [*lines, b"{}"],
    "a line that is no JSON": lambda lines: [*lines, b"torn"],
    "an empty line": lambda lines: [lines[0], b"", *lines[1:]],
    "a member behind the hash": lambda lines: [lines[0][:-1] + b',"note":"x"}', *lines[1:]],
    "a second hash": lambda lines: [lines[0].replace(b'"event"', b'"hash":"0","event"'), *lines[1:]],
    "a changed hash": lambda lines: [lines[0][:-3] + b'x"}', *lines[1:]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_was_changed_afterwards_is_found(folder, change):
    write(folder, 4)
    path = files_of(folder)[0]
    path.write_bytes(b"\n".join(change(lines(folder))) + b"\n")
    assert verify(folder).fault != ""


def test_a_line_changed_together_with_its_own_hash_breaks_the_next_link(folder):
    write(folder, 3)
    first, *rest = lines(folder)
    record = {k: v for k, v in json.loads(first).items() if k not in ("hash", "prev")}
    forged, _ = audit_chain.link(GENESIS, {**record, "revision": 9})
    files_of(folder)[0].write_bytes(forged + b"\n".join(rest) + b"\n")
    verdict = verify(folder)
    assert (verdict.records, "does not follow" in verdict.fault) == (1, True)


def test_a_chain_cut_short_is_found_by_a_head_that_was_noted_before(folder):
    log = write(folder, 3)
    path = files_of(folder)[0]
    path.write_bytes(b"\n".join(lines(folder)[:2]) + b"\n")
    assert verify(folder).fault == ""
    assert "taken away" in verify(folder, expected=log.head[1]).fault
    assert verify(folder, expected=verify(folder).head).fault == ""


def test_files_follow_each_other_and_older_ones_may_be_kept_elsewhere(folder, monkeypatch):
    monkeypatch.setattr(audit_chain, "MAX_BYTES", 1000)
    write(folder, 10)
    write(folder, 10)
    files = files_of(folder)
    assert len(files) > 3
    assert verify(folder) == audit_chain.Verdict(1, 20, records(folder)[-1]["hash"])
    last = json.loads(files[0].read_bytes().splitlines()[-1])["seq"]
    files[0].rename(folder.parent / "kept.jsonl")
    verdict = verify(folder)
    assert (verdict.first, verdict.records, verdict.fault) == (last + 1, 20 - last, "")
    files[2].unlink()
    assert "does not follow" in verify(folder).fault


def test_what_a_crash_left_of_a_line_is_cut_off_and_the_chain_says_so(folder):
    write(folder, 2)
    path = files_of(folder)[0]
    with path.open("ab") as file:
        file.write(b'{"prev":"abc')
    assert "not what was written" in verify(folder).fault
    write(folder, 1)
    recovered = records(folder)[2]
    assert recovered["event"] == "recovered"
    assert recovered["torn_sha256"] == hashlib.sha256(b'{"prev":"abc').hexdigest()
    assert verify(folder).fault == ""


def test_a_chain_whose_last_line_was_changed_is_not_gone_on_with(folder):
    write(folder, 2)
    path = files_of(folder)[0]
    path.write_bytes(path.read_bytes().replace(b'"seq":2', b'"seq":7'))
    with pytest.raises(ConfigError, match="audit line must"):
        AuditLog(folder)


def test_two_processes_never_write_one_chain(folder):
    log = AuditLog(folder)
    with pytest.raises(ConfigError, match="this process's alone"):
        AuditLog(folder)
    log.close()
    write(folder, 1)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="SEQUELA_AUDIT"):
        AuditLog(tmp_path / "file" / "audit")


def test_without_a_chain_there_is_nothing_to_verify(tmp_path):
    with pytest.raises(DataError, match="audit folder"):
        verify(tmp_path)


def test_threads_share_one_chain(folder):
    log = AuditLog(folder, flush_s=0.01)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: log.record(AuditEvent.SCORED, **FACTS), range(800)))
    log.close()
    assert verify(folder).records == 800


def test_a_record_that_cannot_be_written_refuses_the_answer_and_leaves_the_chain_whole(folder, monkeypatch):
    log = AuditLog(folder)
    log.record(AuditEvent.SCORED)
    write_all = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write_all(descriptor, line[:20]))
    with pytest.raises(Problem) as caught:
        log.record(AuditEvent.SCORED)
    assert caught.value.status_code == 503
    monkeypatch.undo()
    log.record(AuditEvent.SCORED)
    log.close()
    assert verify(folder) == audit_chain.Verdict(1, 2, log.head[1])


def test_nothing_that_was_recorded_is_lost_by_a_kill(folder):
    code = (
        "import sys; from pathlib import Path; from service.audit import AuditEvent, AuditLog\n"
        f"log = AuditLog(Path({str(folder)!r}))\n"
        "for n in range(10**9):\n"
        "    log.record(AuditEvent.SCORED, revision=n); print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with process.stdout:
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        told = [0, *(int(line) for line in process.stdout if line.endswith("\n"))]
    process.wait()
    assert len(told) > 10
    assert {r.get("revision") for r in records(folder)} >= set(told)
    assert verify(folder).fault == ""
    write(folder, 1)
    assert verify(folder).fault == ""


def test_an_application_without_a_folder_records_nothing():
    audit = NoAudit()
    assert audit.record(AuditEvent.SCORED) is None
    assert audit.close() is None
