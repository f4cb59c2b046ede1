"""From a module's source to what it breaks: the rules of the layout, each a function that names the faulty lines."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "pipelines", "service")
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_CLASS_LINES = 150

# `models` may import these and the standard library alone; the others are told what they may not import.
MODELS_MAY_IMPORT = {"models", "numpy", "torch", "safetensors", "tokenizers"}
# Optional members: imported by one module each, and there alone.
OPTIONAL = {"models/trees.py": "lightgbm"}
FORBIDDEN = {
    "models": {"pipelines", "service", "tests"},
    "pipelines": {"service", "fastapi", "tests", "lightning"},
    "service": {"pipelines", "pytorch_lightning", "tests", "lightning"},
}
PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNFINISHED = re.compile(r"NotImplementedError|TODO|FIXME|XXX|\bfor now\b|\bplaceholder\b|\bstub\b")
LONG_REASON = re.compile(r"# long: \S+ \S+")


@dataclass(frozen=True)
class Module:
    """One module of the packages.

    Args:
        path: relative to the root, with forward slashes.
        source: its text.
    """

    path: str
    source: str

    @property
    def room(self) -> str:
        return self.path.split("/")[0]

    @property
    def name(self) -> str:
        """Dotted name."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    def at(self, node: ast.stmt | ast.expr, what: str) -> str:
        return f"{self.path}:{node.lineno} {what}"


def package_modules() -> list[Module]:
    """Every module of the three packages."""
    paths = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
    return [Module(p.relative_to(ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in paths]


def imported_names(module: Module) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Dotted names that a module imports anywhere: at its top, inside functions, and by `import_module("...")`."""
    package = module.name if module.path.endswith("__init__.py") else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield node, base
            yield from ((node, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((node, name) for argument in node.args[:1] if (name := _leading_text(argument)))


def _leading_text(argument: ast.expr) -> str:
    """The text of a string, or of an f-string up to its first value."""
    first = argument.values[0] if isinstance(argument, ast.JoinedStr) and argument.values else argument
    return first.value.rstrip(".") if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def imports_against_the_rule(module: Module) -> list[str]:
    faults = set()
    for node, name in imported_names(module):
        top = name.split(".")[0]
        allowed = top in MODELS_MAY_IMPORT or top in sys.stdlib_module_names or top == OPTIONAL.get(module.path)
        outside = module.room == "models" and not allowed
        if outside or top in FORBIDDEN[module.room]:
            faults.add(module.at(node, f"imports {top}"))
    return sorted(faults)


def import_cycles(modules: list[Module]) -> list[str]:
    """Modules that reach themselves through the packages' imports, one line a cycle."""
    known = {m.name for m in modules}
    edges = {m.name: {n for _, n in imported_names(m) if n in known and n != m.name} for m in modules}
    # A package's own name is no module of substance: importing `models.x` runs `models/__init__.py` as well.
    cycles = set()
    for start in edges:
        stack, seen = [(start, (start,))], {start}
        while stack:
            here, path = stack.pop()
            if start in edges[here]:
                cycles.add(" -> ".join(sorted(path)))
                break
            new = edges[here] - seen
            seen |= new
            stack += [(name, (*path, name)) for name in sorted(new)]
    return sorted(cycles)


def oversized(module: Module) -> list[str]:
    """Modules, classes and functions beyond their size; a function may give its reason as `# long: <reason>`."""
    count = len(module.source.splitlines())
    faults = [f"{module.path} has {count} lines"] if count > MAX_MODULE_LINES else []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and (size := _lines_without_docstrings(node)) > MAX_CLASS_LINES:
            faults.append(module.at(node, f"{node.name} has {size} lines"))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            size = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            text = ast.get_source_segment(module.source, node) or ""
            if size > MAX_FUNCTION_LINES and not LONG_REASON.search(text):
                faults.append(module.at(node, f"{node.name} has {size} lines"))
    return faults


def _lines_without_docstrings(node: ast.ClassDef) -> int:
    size = (node.end_lineno or 0) - node.lineno + 1
    for part in ast.walk(node):
        if isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(part):
            size -= (part.body[0].end_lineno or 0) - part.body[0].lineno + 1
    return size


def unsafe_loading(module: Module) -> list[str]:
    """Ways by which a stored file could run code: pickles, and loaders that fall back to them."""
    faults = set()
    if module.room != "pipelines":
        faults |= {module.at(n, f"imports {m}") for n, m in imported_names(module) if m.split(".")[0] in PICKLERS}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            options = {k.arg: ast.unparse(k.value) for k in node.keywords}
            called = ast.unparse(node.func)
            if called == "torch.load" and options.get("weights_only") != "True":
                faults.add(module.at(node, "calls torch.load without weights_only=True"))
            if options.get("allow_pickle", "False") != "False":
                faults.add(module.at(node, f"calls {called} with allow_pickle"))
    return sorted(faults)


def prints(module: Module) -> list[str]:
    return [module.at(n, "prints") for n in ast.walk(module.tree) if isinstance(n, ast.Name) and n.id == "print"]


def environment_reads(module: Module) -> list[str]:
    """Uses of the environment outside `settings.py`; setting variables for a child or a library is no reading."""
    if module.path.endswith("/settings.py"):
        return []
    written = {
        id(node.value)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("update", "setdefault")
    }
    return [
        module.at(node, "reads the environment")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in ("os.environ", "os.getenv", "os.environb")
        and id(node) not in written
    ]


def unfinished(module: Module) -> list[str]:
    lines = enumerate(module.source.splitlines(), start=1)
    return [f"{module.path}:{number} has an unfinished part" for number, line in lines if UNFINISHED.search(line)]


def without_docstring(module: Module) -> list[str]:
    return [] if ast.get_docstring(module.tree) or not module.source.strip() else [f"{module.path} says nothing"]
