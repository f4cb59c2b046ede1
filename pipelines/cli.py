"""The `sequela` command: arguments in, one command run, an exit status out.

Exit status: 0 done, 1 refused with a reason (bad data, gate not passed), 2 wrong usage; a command may
define others beyond these and says so in its help. Commands are imported only when they are called, so
that `sequela prepare` does not wait for torch or mlflow.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from models.disclaimer import DISCLAIMER_EN
from models.errors import SequelaError
from pipelines.crash import EXIT_CRASHED, crashed

COMMANDS = {
    "prepare": "read a source into a cohort",
    "train": "train, calibrate, evaluate, log to MLflow and register a model",
    "tune": "search the configuration that does best on the validation part",
    "recalibrate": "fit a registered model's risks to a site's own patients",
    "evaluate": "score every stay of a cohort and write figures with intervals",
    "score": "write the risk at every time step of a cohort",
    "promote": "move an alias to a version, after the gate",
    "rollback": "move the champion back to the previous version",
    "serve": "run the REST service",
    "audit": "verify the chain of what the service did",
    "retrain": "run one whole training job with its gate",
    "schedule": "run the training job by the clock",
    "demo": "all of it on a synthetic cohort, in a few minutes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((a for a in arguments if not a.startswith("-")), "")
    parser = _parser(chosen)
    args = parser.parse_args(arguments)
    module = importlib.import_module(f"pipelines.commands.{args.command}")
    stream = sys.stderr if args.json else sys.stdout

    def say(line: str) -> None:
        stream.write(line + "\n")
        stream.flush()

    try:
        result = dict(module.run(args, say))
    except SequelaError as error:
        return _refuse(str(error), as_json=args.json, status=int(getattr(error, "exit_status", 1)))
    except OSError as error:
        return _refuse(_unusable(error), as_json=args.json, status=1)
    except Exception as error:  # noqa: BLE001 - whatever it is, its own text may hold what a file held
        return _refuse(str(crashed(error)), as_json=args.json, status=EXIT_CRASHED)
    status = int(result.pop("exit_status", 0))
    if args.json:
        _print_json(result)
    return status


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sequela",
        description="Recurrent risk models for vital signs and clinical notes.",
        epilog=DISCLAIMER_EN,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{name}: {summary}.", epilog=DISCLAIMER_EN)
        command.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
        if name == chosen:
            importlib.import_module(f"pipelines.commands.{name}").add_arguments(command)
    return parser


def _unusable(error: OSError) -> str:
    where = "" if error.filename is None else f" at {error.filename}"
    what = error.strerror or type(error).__name__
    return f"files must be readable and folders writable, got '{what}'{where}; correct the path or free it"


def _refuse(reason: str, *, as_json: bool, status: int) -> int:
    sys.stderr.write(f"sequela: {reason}\n")
    if as_json:
        _print_json({"refused": reason})
    return status


def _print_json(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
