"""`python -m service keys` and `python -m service audit`: arguments in, one command run, an exit status out.

Exit status: 0 done and in order, 1 refused with a reason or a chain that does not verify, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.disclaimer import DISCLAIMER_EN
from models.errors import ConfigError, DataError, SequelaError
from service.audit_chain import verify
from service.keys import Scope, make_key, read_keys, without_key, write_keys
from service.limits import parse_rate
from service.settings import Settings, settings_from_environment


def main(argv: Sequence[str]) -> int:
    """Runs one command of this module and returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        result = dict(args.run(args, settings_from_environment()))
    except SequelaError as error:
        sys.stderr.write(f"sequela: {error}\n")
        if args.json:
            _say(json.dumps({"refused": str(error)}))
        return 1
    status = int(result.pop("exit_status", 0))
    if args.json:
        _say(json.dumps(result))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description=main.__doc__, epilog=DISCLAIMER_EN)
    groups = parser.add_subparsers(required=True, metavar="COMMAND")
    keys = groups.add_parser("keys", help="make, list and revoke API keys").add_subparsers(required=True)
    add = _command(keys, "add", _add, "make a key; it is shown this once, on standard output")
    add.add_argument("--name", required=True, help="who holds it")
    add.add_argument("--scopes", required=True, help=f"what it may do, by comma: {', '.join(Scope)}")
    add.add_argument("--days", type=float, help="how long it holds; default without end")
    add.add_argument("--rate", help="its own limit, such as 100/second; default the service's")
    _command(keys, "list", _list, "show the keys, without secrets")
    _command(keys, "revoke", _revoke, "end a key at once").add_argument("id", help="the public part of the key")
    audit = groups.add_parser("audit", help="verify the audit, and compute its answers again").add_subparsers(
        required=True
    )
    check = _command(audit, "verify", _verify, "follow the chain from its first record to its last")
    check.add_argument("--folder", action="append", type=Path, help="a chain; default that of SEQUELA_AUDIT")
    check.add_argument("--expect", default="", metavar="HASH", help="a record's hash that was noted before")
    again = _command(audit, "recompute", _recompute, "compute the answers of retained stays again")
    again.add_argument("--folder", action="append", type=Path, help="a chain; default that of SEQUELA_AUDIT")
    again.add_argument(
        "--model", action="append", type=Path, default=[], metavar="FOLDER", help="a model that the cache does not hold"
    )
    return parser


def _command(group: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=summary, description=f"{summary}.")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    parser.set_defaults(run=run)
    return parser


def _add(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    known = {str(scope) for scope in Scope}
    wanted = {word.strip() for word in args.scopes.split(",")} - {""}
    if not wanted <= known:
        raise ConfigError(f"scopes must be of {', '.join(sorted(known))}, got another; correct --scopes")
    if args.rate is not None:
        parse_rate(args.rate)
    path = _key_file(settings)
    key, shown = make_key(args.name, map(Scope, wanted), days=args.days, rate=args.rate)
    with _alone(path):
        write_keys(path, [*(read_keys(path) if path.exists() else ()), key])
    sys.stderr.write(f"sequela: key {key.id} is in {path}; what follows is shown this once\n")
    if not args.json:
        _say(shown)
    return {**key.to_record(), "key": shown}


def _list(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    records = [{k: v for k, v in key.to_record().items() if k != "sha256"} for key in read_keys(_key_file(settings))]
    if not args.json:
        for record in records:
            _say(
                f"{record['id']}  {record['name']:<20}  {','.join(record['scopes']):<17}  made {record['created']}  "
                f"ends {record['expires'] or 'never'}  {record['rate'] or ''}".rstrip()
            )
    return {"keys": records}


def _revoke(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    path = _key_file(settings)
    with _alone(path):
        write_keys(path, without_key(read_keys(path), args.id))
    if not args.json:
        _say(f"key {args.id} is revoked; a running service follows within two seconds")
    return {"revoked": args.id}


def _verify(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    chains, whole = [], True
    for folder in _chains(args, settings):
        verdict = verify(folder, expected=args.expect)
        last = max(0, verdict.first + verdict.records - 1)
        chains.append(
            {"folder": str(folder), "first": verdict.first, "last": last, "head": verdict.head}
            | ({"fault": verdict.fault} if verdict.fault else {})
        )
        whole = whole and not verdict.fault
        if not args.json:
            what = f"breaks after record {last}: {verdict.fault}" if verdict.fault else "is whole"
            _say(f"{folder}: records {verdict.first} to {last}; head {verdict.head}; the chain {what}")
    return {"chains": chains, "whole": whole, "exit_status": 0 if whole else 1}


def _recompute(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    from service.recompute import TOLERANCE, recomputed  # it waits for torch

    folders = _chains(args, settings)
    for folder in folders:
        if fault := verify(folder).fault:
            raise DataError(f"audit chain must be whole, got one that breaks: {fault}; see `audit verify`")
    found = asyncio.run(recomputed(folders, settings, args.model))
    if not args.json:
        _say(
            f"{found.answers} answers of {found.stays} retained stays computed again: largest difference "
            f"{found.worst:.1e}, at most {TOLERANCE:.0e} is the same"
        )
        _say(
            f"not comparable: {found.gone} answers of stays that are deleted, {found.viewed} stays as they were shown, "
            f"{found.whole} scores of whole stays, which are not kept"
        )
        for digest, count in found.missing.items():
            _say(f"{count} answers by {digest}: the model must be at hand; name its folder with --model")
        for fault in found.faults:
            _say(fault)
    return {**asdict(found), "holds": found.holds, "exit_status": 0 if found.holds else 1}


def _chains(args: argparse.Namespace, settings: Settings) -> list[Path]:
    folders = args.folder or ([settings.audit_folder] if settings.audit_folder else [])
    if not folders:
        raise ConfigError("folder must be given where SEQUELA_AUDIT is off, got none; name it")
    return list(folders)


def _key_file(settings: Settings) -> Path:
    if settings.keys is None:
        raise ConfigError("SEQUELA_KEYS must name the file of keys, got nothing; set it, for the service too")
    return settings.keys


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two operators at once must not lose each other's keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
