"""Where a command writes its answer: refused before the work where nothing can be written there."""

from __future__ import annotations

import os
from pathlib import Path

from models.errors import DataError


def check_out_file(path: Path) -> None:
    """Makes the file's folder.

    Raises:
        DataError: if there is a folder in the file's place, or it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"out must lie in a folder that can be written, got {error.strerror} at {path.parent}; choose another"
        ) from None
    if path.is_dir():
        raise DataError(f"out must be a file, got the folder {path}; name a file in it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise DataError(f"out must be a file that can be written, got {path} without the permission; free it")
