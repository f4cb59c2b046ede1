"""`sequela serve`: runs the REST service in place of this process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; each stands for the service's own environment variable."""
    parser.add_argument("--model", help="models:/name@alias, models:/name/version or a folder (SEQUELA_MODEL)")
    parser.add_argument("--host", help="address to listen on (SEQUELA_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (SEQUELA_PORT)")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Becomes `python -m service`, so that signals reach the service itself."""
    given = {"SEQUELA_MODEL": args.model, "SEQUELA_HOST": args.host, "SEQUELA_PORT": args.port}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    say("starting the service")
    os.execv(sys.executable, [sys.executable, "-m", "service"])  # noqa: S606 - this interpreter, fixed arguments
