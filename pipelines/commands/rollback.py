"""`sequela rollback NAME`: moves the champion back to the previous version, after digests and golden scores alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("name", help="name of the registered model")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Checks and moves; returns which version is champion now."""
    from pipelines.promote import rollback
    from pipelines.settings import Settings

    restored, left = rollback(args.name, settings=Settings.from_environment())
    say(f"{restored.address} is champion again" + (f", in place of {left.address}" if left else ""))
    return {"model": restored.address, "alias": "champion", "replaced": left.address if left else None}
