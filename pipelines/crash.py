"""An unforeseen error in, an exit status that is no refusal out; the error's own text may hold data and is left out."""

from __future__ import annotations

import sys
import traceback

from models.errors import SequelaError

EXIT_CRASHED = 70  # sysexits' EX_SOFTWARE; Python's own status 1 would mean a refusal


class CrashedError(SequelaError):
    """Raised in place of an unforeseen error."""

    exit_status = EXIT_CRASHED


def crashed(error: Exception) -> CrashedError:
    """Writes where the error happened to standard error and gives what to raise or report in its place."""
    sys.stderr.write("".join(traceback.format_tb(error.__traceback__)))
    return CrashedError(f"command must end by itself, got {type(error).__name__}; see the traceback above")
