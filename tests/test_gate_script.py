"""The gate of every change: what `.ci/run` asks for, and that no skip gets past it but the GPU's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture_rules import ROOT

CHECK = [sys.executable, str(ROOT / ".ci" / "check_skips.py")]
TESTS = """
import pytest
def test_passes(): assert True
@pytest.mark.skip(reason={reason!r})
def test_skipped(): assert True
@pytest.mark.xfail(strict=True, reason="known")
def test_known(): assert False
"""


def _judge(folder: Path, reason: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest on a skipping test, then the check on what it wrote."""
    (folder / "test_it.py").write_text(TESTS.format(reason=reason), encoding="utf-8")
    junit = folder / "junit.xml"
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={junit}", str(folder)]
    subprocess.run(pytest_run, cwd=folder, capture_output=True, check=True)
    return subprocess.run([*CHECK, str(junit)], capture_output=True, text=True, check=False)


def test_a_skip_is_a_failure_of_the_gate_and_is_named(tmp_path: Path) -> None:
    judged = _judge(tmp_path, "SEQUELA_DATA is not set")
    assert judged.returncode == 1
    assert "test_skipped: SEQUELA_DATA is not set" in judged.stderr
    assert "test_known" not in judged.stderr


@pytest.mark.parametrize("reason", ["needs a GPU", "CUDA is not available"])
def test_a_skip_for_want_of_a_gpu_is_allowed_and_nothing_is_said(tmp_path: Path, reason: str) -> None:
    judged = _judge(tmp_path, reason)
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")


def test_the_gate_runs_checks_and_tests_in_a_new_environment() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    script = "\n".join(line for line in lines if not line.startswith("#"))
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=False).returncode == 0
    assert "set -euo pipefail" in script
    assert script.index("export VENV=$work") < script.index("make check") < script.index("make test")
    assert {"SEQUELA_DATA", "SEQUELA_TEST_POSTGRES", "SEQUELA_TEST_REDIS"} <= set(re.findall(r"SEQUELA_\w+", script))


def test_make_offers_the_promised_targets_and_refuses_an_old_python(tmp_path: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {"demo", "test", "check", "serve", "lock", "clean", "stop"} <= targets
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    made = subprocess.run(
        ["make", "test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 2
    assert "needs Python 3.11 or newer, got Python 3.9.2" in made.stderr
    assert not (tmp_path / "venv").exists()
