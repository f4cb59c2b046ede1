"""From pytest's JUnit file to an exit status: no test may be skipped, but for want of a GPU.

A skipped test looks like a passing one in a summary; where everything a test needs can be had, a skip is a fault.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ALLOWED = re.compile(r"\b(gpu|cuda)\b", re.IGNORECASE)


def forbidden_skips(junit: Path) -> list[str]:
    """Each skipped test with its reason, without those whose reason names the GPU."""
    found = []
    for case in ElementTree.parse(junit).iter("testcase"):  # noqa: S314 - written by this run's own pytest
        for skip in case.findall("skipped"):
            reason = skip.get("message", "")
            if skip.get("type") != "pytest.xfail" and not ALLOWED.search(reason):
                found.append(f"{case.get('classname')}.{case.get('name')}: {reason}")
    return found


def main(arguments: list[str]) -> int:
    """Prints the forbidden skips of one JUnit file; 1 if there is any."""
    found = forbidden_skips(Path(arguments[0]))
    for line in found:
        sys.stderr.write(f"skipped without leave: {line}\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
