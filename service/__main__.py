"""`python -m service`: settings from the environment, a verified model, then HTTP until SIGTERM.

Exit status: 0 ended by a signal, 1 refused to start with a reason on standard error, 2 wrong settings.

`python -m service keys` and `python -m service audit` are in `service.commands`; neither waits for torch.
"""

from __future__ import annotations

import argparse
import sys

from models.disclaimer import DISCLAIMER_EN


def main() -> int:
    """Runs the service, or one of its commands, and returns its exit status."""
    if sys.argv[1:2] in (["keys"], ["audit"]):
        from service import commands

        return commands.main(sys.argv[1:])
    argparse.ArgumentParser(
        prog="python -m service",
        description="Serves one registered model over HTTP. Settings come from the environment: docs/service.md. "
        "`python -m service keys --help` and `python -m service audit --help` tell of its commands.",
        epilog=DISCLAIMER_EN,
    ).parse_args()
    from service.server import serve

    return serve()


if __name__ == "__main__":
    raise SystemExit(main())
