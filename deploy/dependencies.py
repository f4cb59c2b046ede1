"""From pyproject.toml to a requirements list on standard output: the project's dependencies and named extras.

An image installs them, at the locked versions, before it receives any source: a change of code then leaves
the layer of dependencies as it was.

Example: `python dependencies.py service > wanted.txt && pip install -c requirements.lock -r wanted.txt`
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def wanted(pyproject: Path, extras: list[str]) -> list[str]:
    """The project's requirements with those of the extras.

    Raises:
        SystemExit: for an extra that the project does not have.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    unknown = sorted(set(extras) - set(known))
    if unknown:
        raise SystemExit(f"extras must be of {sorted(known)}, got {unknown}; correct the name")
    return [*project["dependencies"], *(r for extra in extras for r in known[extra])]


if __name__ == "__main__":
    sys.stdout.write("\n".join(wanted(Path("pyproject.toml"), sys.argv[1:])) + "\n")
