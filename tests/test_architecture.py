"""The layout holds: who imports whom, how large things are, what never occurs; and each rule can fail."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from tests.architecture_rules import (
    ROOT,
    Module,
    environment_reads,
    import_cycles,
    imports_against_the_rule,
    oversized,
    package_modules,
    prints,
    unfinished,
    unsafe_loading,
    without_docstring,
)

MODULES = package_modules()
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAX_FILE_BYTES = 500_000

type_of_rule = Callable[[Module], list[str]]
RULES: list[type_of_rule] = [
    imports_against_the_rule,
    oversized,
    unsafe_loading,
    prints,
    environment_reads,
    unfinished,
    without_docstring,
]
LONG_BODY = "\n".join(f"    x = {i}" for i in range(41))
BREAKS: list[tuple[type_of_rule, str, str]] = [
    (imports_against_the_rule, "models/a.py", "import pipelines.train"),
    (imports_against_the_rule, "models/a.py", "def f():\n    from service import app"),
    (imports_against_the_rule, "models/a.py", "from mlflow import pyfunc"),
    (imports_against_the_rule, "pipelines/a.py", "def f():\n    import fastapi"),
    (imports_against_the_rule, "pipelines/a.py", "import importlib\nimportlib.import_module('service.app')"),
    (imports_against_the_rule, "pipelines/a.py", "import importlib\nimportlib.import_module(f'service.{x}')"),
    (imports_against_the_rule, "pipelines/a.py", "import lightning"),
    (imports_against_the_rule, "service/a.py", "from pytorch_lightning import Trainer"),
    (imports_against_the_rule, "service/a.py", "import pipelines"),
    (oversized, "models/a.py", "x = 1\n" * 301),
    (oversized, "models/a.py", f"def f():\n{LONG_BODY}"),
    (oversized, "models/a.py", "class A:\n" + "    x = 1\n" * 150),
    (unsafe_loading, "models/a.py", "import pickle"),
    (unsafe_loading, "service/a.py", "def f():\n    from joblib import load"),
    (unsafe_loading, "pipelines/a.py", "import torch\ntorch.load(p)"),
    (unsafe_loading, "models/a.py", "import torch\ntorch.load(p, weights_only=False)"),
    (unsafe_loading, "pipelines/a.py", "import numpy as np\nnp.load(p, allow_pickle=True)"),
    (prints, "service/a.py", "print('x')"),
    (environment_reads, "models/a.py", "import os\nx = os.environ['A']"),
    (environment_reads, "pipelines/a.py", "import os\nx = os.getenv('A')"),
    (unfinished, "models/a.py", "# TODO: later"),
    (without_docstring, "models/a.py", "x = 1"),
]
KEEPS: list[tuple[type_of_rule, str, str]] = [
    (imports_against_the_rule, "models/a.py", "import json, numpy as np, torch\nfrom models.stay import Stays"),
    (imports_against_the_rule, "service/a.py", "import fastapi\nfrom models.scorer import Scorer"),
    (oversized, "models/a.py", f'def f():\n    """Says."""\n    # long: one table of equations\n{LONG_BODY}'),
    (oversized, "models/a.py", 'def f():\n    """' + "Says.\n\n" * 50 + '"""\n    return 1'),
    (unsafe_loading, "models/a.py", "import torch\ntorch.load(p, weights_only=True)"),
    (environment_reads, "pipelines/settings.py", "import os\nx = os.environ['A']"),
    (environment_reads, "pipelines/a.py", "import os\nos.environ.update({'A': 'b'})"),
    (prints, "service/a.py", "x = 'print(1)'"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
def test_every_module_keeps_the_rule(rule: type_of_rule) -> None:
    assert [fault for module in MODULES for fault in rule(module)] == []


@pytest.mark.parametrize(("rule", "path", "source"), BREAKS)
def test_a_breach_is_found(rule: type_of_rule, path: str, source: str) -> None:
    assert rule(Module(path, source)) != []


@pytest.mark.parametrize(("rule", "path", "source"), KEEPS)
def test_what_is_allowed_is_not_a_breach(rule: type_of_rule, path: str, source: str) -> None:
    assert rule(Module(path, source)) == []


def test_no_module_reaches_itself_through_imports() -> None:
    assert import_cycles(MODULES) == []


def test_a_cycle_is_found_even_through_a_third_module_and_a_late_import() -> None:
    modules = [
        Module("models/a.py", "from models import b"),
        Module("models/b.py", "def f():\n    from models.c import x"),
        Module("models/c.py", "from .a import y"),
    ]
    assert import_cycles(modules) == ["models.a -> models.b -> models.c"]


@pytest.mark.parametrize(
    ("entry", "absent"),
    [
        ("models.scorer, models.artifact", {"pandas", "mlflow", "pytorch_lightning", "fastapi", "pydantic", "sklearn"}),
        ("service.app", {"mlflow", "pytorch_lightning", "lightning", "pandas", "sklearn", "matplotlib"}),
        ("pipelines.cli", {"torch", "mlflow", "pandas", "pytorch_lightning"}),
    ],
)
def test_importing_a_package_does_not_load_what_it_should_not_need(entry: str, absent: set[str]) -> None:
    code = f"import sys, {entry}; print(*{{m.split('.')[0] for m in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert absent & set(loaded.stdout.split()) == set()


def test_every_locked_requirement_is_pinned_and_torch_is_the_agreed_one() -> None:
    lines = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==[^\s=]+", line)] == []
    assert "torch==2.13.0" in lines


def test_lightning_is_neither_locked_nor_asked_for() -> None:
    asked = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    names = [re.split(r"[<>=~!\[; ]", line.strip(), maxsplit=1)[0].lower() for line in [*asked, *LOCK.splitlines()]]
    assert "lightning" not in names
    assert "pytorch-lightning" in names


def test_every_requirement_of_the_project_is_in_the_lock() -> None:
    locked = {line.split("==")[0] for line in LOCK.splitlines() if "==" in line}
    asked = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    assert {re.split(r"[<>=~!\[; ]", r, maxsplit=1)[0] for r in asked} - locked == set()


def test_the_disclaimer_is_worded_in_one_module_alone() -> None:
    words = {DISCLAIMER_EN[:20].lower(), "medical device", "not for diagnosis", DISCLAIMER_JA[:6], "医療機器"}
    found = {m.path for m in MODULES if any(w in m.source.lower() for w in words)}
    assert found == {"models/disclaimer.py"}


def test_the_readme_tree_names_every_package_file_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = Counter(re.findall(r"^[\s│├└─|`]*(?:[\w/]+/)?(\w+\.py)\b", readme, flags=re.MULTILINE))
    files = Counter(PurePosixPath(m.path).name for m in MODULES if not m.path.endswith("__init__.py"))
    assert {name: count for name, count in files.items() if named[name] < count} == {}
    assert set(named) - set(files) - {p.name for p in (ROOT / "tests").rglob("*.py")} - _other_files() == set()


def test_no_tracked_file_is_larger_than_half_a_megabyte() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in _tracked() if (ROOT / name).is_file()}
    assert {name for name, size in sizes.items() if size > MAX_FILE_BYTES} == set()
    assert sizes != {}


def test_every_test_asserts_something() -> None:
    weak = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                text = ast.get_source_segment(source, node) or ""
                if not re.search(r"\bassert\b|raises|warns|assert_|check_", text):
                    weak.append(f"{path.relative_to(ROOT)} {node.name}")
    assert weak == []


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def _other_files() -> set[str]:
    return {PurePosixPath(name).name for name in _tracked()}
