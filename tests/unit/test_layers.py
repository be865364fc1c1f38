"""Who may import whom, and what only the doors may do: the rules of the layout, read from the source.

Imports are read with ast, so nothing is executed. A failure lists every offending line.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "rdock"

FLOOR = {"__init__", "errors", "paths", "launch", "config", "values", "jsontext", "scope"}
# What each room may import besides itself, as the beginnings of module names without `rdock.`.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "paths": FLOOR - {"config"},
    "launch": FLOOR - {"config"} | {"linux.signals"},
    "config": FLOOR | {"state.record"},
    "values": set(),
    "jsontext": set(),
    "scope": set(),
    "bytecode": set(),
    "linux": {"values"},
    "state": FLOOR,
    "storage": FLOOR | {"state", "linux"},
    "runtime": {"errors", "paths", "launch", "values", "jsontext", "linux", "state.record"},
    "image": FLOOR | {"state", "linux", "storage"},
    "registry": FLOOR | {"state", "linux", "storage", "image"},
    "volume": FLOOR | {"state", "linux", "storage"},
    "network": FLOOR | {"state", "linux"},
}
MAY_IMPORT["container"] = set().union(*MAY_IMPORT.values(), MAY_IMPORT)
MAY_IMPORT["build"] = MAY_IMPORT["container"] | {"container"}
MAY_IMPORT["api"] = MAY_IMPORT["build"] | {"build"}
MAY_IMPORT["cli"] = MAY_IMPORT["api"] | {"api"}
MAY_IMPORT["__main__"] = {"cli.main", "bytecode"}

DOORS = {
    "docopt": "cli.usage",
    "pyroute2": "network.netlink",
    "psutil": "container.stats",
    "urllib3": "registry.http",
    "zstandard": "image.compression",
}
MAY_TALK = ("cli", "api", "launch", "config", "paths", "__main__")
TALK = {"print", "input", "sys.exit", "sys.argv", "os.environ", "os.environb", "os.getenv", "os.putenv"}
STARTS_PROGRAMS = {"os.system", "os.popen", "os.posix_spawn", "os.posix_spawnp", "os.spawnv", "os.spawnve"}
# Where an import at the wrong time kills: the root of the file system has been changed by then.
AFTER_PIVOT = ("runtime.child", "runtime.join")


@dataclass(frozen=True)
class Import:
    """One imported module (without `rdock.` for our own), and where."""

    target: str
    own: bool
    line: int
    in_function: bool


@cache
def modules() -> dict[str, Path]:
    """All modules of the package: name without `rdock.` → file; packages as `folder.__init__`."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if "__pycache__" not in path.parts
    }


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(), str(modules()[module]))


def imports_in(parsed: ast.Module) -> Iterator[Import]:
    """Every import, wherever it stands."""
    functions = [n for n in ast.walk(parsed) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            # `from rdock.linux import mount` names a module, `from rdock.errors import NotFound` a thing in one
            names = [_module(source, alias.name) for alias in node.names]
        else:
            continue
        for name in dict.fromkeys(names):
            own = name == "rdock" or name.startswith(("rdock.", "."))
            yield Import(name.removeprefix("rdock.") if own else name, own, node.lineno, id(node) in inner)


def _module(source: str, name: str) -> str:
    """The module that `from source import name` reads."""
    path = CHECKOUT / source.replace(".", "/")
    if source.split(".")[0] != "rdock" or not path.is_dir():
        return source
    is_module = (path / name).is_dir() or (path / f"{name}.py").exists()
    return f"{source}.{name if is_module else '__init__'}"


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(imports_in(tree(module)))


def room(module: str) -> str:
    return module.split(".")[0]


def begins(name: str, start: str) -> bool:
    return name == start or name.startswith(start + ".")


def place(module: str, line: int) -> str:
    return f"{modules()[module].relative_to(CHECKOUT)}:{line}"


def mentions(parsed: ast.AST, names: set[str]) -> Iterator[tuple[str, int]]:
    """Uses of plain names (`print`) and of attributes of modules (`sys.exit`)."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Name):
            name = node.id
        else:
            continue
        if name in names:
            yield name, node.lineno


# -- the rules -----------------------------------------------------------------------------------


def test_imports_point_downward() -> None:
    wrong = []
    for module in modules():
        allowed = MAY_IMPORT.get(room(module))
        assert allowed is not None, f"{place(module, 1)}: a room that the layout does not know"
        for found in imports(module):
            if found.own and not any(begins(found.target, start) for start in {*allowed, room(module)}):
                wrong.append(f"{place(module, found.line)}: {room(module)} may not import rdock.{found.target}")
    assert not wrong, "\n".join(wrong)


def test_foreign_packages_have_one_door_each() -> None:
    wrong = []
    for module in modules():
        for found in imports(module):
            package = found.target.split(".")[0]
            if not found.own and package not in sys.stdlib_module_names and DOORS.get(package) != module:
                wrong.append(f"{place(module, found.line)}: {package}: {DOORS.get(package, 'not a dependency')}")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_imported_late_after_the_root_has_changed() -> None:
    reached: set[str] = set()
    waiting = [module for module in AFTER_PIVOT if module in modules()]
    while waiting:
        module = waiting.pop()
        if module in modules() and module not in reached:
            reached.add(module)
            waiting += [found.target for found in imports(module) if found.own]
    wrong = [place(module, found.line) for module in reached for found in imports(module) if found.in_function]
    assert not wrong, "imports inside functions:\n" + "\n".join(sorted(wrong))


def test_only_the_doors_talk() -> None:
    wrong = [
        f"{place(module, line)}: {name}"
        for module in modules()
        if room(module) not in MAY_TALK
        for name, line in mentions(tree(module), TALK)
    ]
    assert not wrong, "\n".join(wrong)


def test_programs_are_started_by_launch_alone() -> None:
    wrong = []
    for module in modules():
        if module != "launch":
            late = [found.line for found in imports(module) if found.target in ("subprocess", "multiprocessing", "pty")]
            late += [line for _, line in mentions(tree(module), STARTS_PROGRAMS)]
            wrong += [place(module, line) for line in late]
    assert not wrong, "\n".join(wrong)


def test_init_files_are_empty() -> None:
    full = [
        str(path.relative_to(CHECKOUT))
        for module, path in modules().items()
        if module.endswith(".__init__") and module != "network.drivers.__init__" and path.read_text().strip()
    ]
    assert not full, full


def _is_off(node: ast.expr) -> bool:
    """Whether an argument is anything but a true constant."""
    return not isinstance(node, ast.Constant) or not node.value


def test_nothing_dangerous_is_called() -> None:
    wrong = []
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Attribute | ast.Name):
                name = node.attr if isinstance(node, ast.Attribute) else node.id
                if name in ("extractall", "unpack_archive"):
                    wrong.append(f"{place(module, node.lineno)}: {name}")
            if isinstance(node, ast.keyword) and node.arg == "shell" and not _is_off(node.value):
                wrong.append(f"{place(module, node.lineno)}: shell=")
    assert not wrong, "\n".join(wrong)


def test_the_reader_sees_what_it_should() -> None:
    source = """
from rdock import __version__, paths
from rdock.linux import mount
from rdock.errors import NotFound, Conflict
import os.path
def f():
    import json
    print(sys.argv)
"""
    parsed = ast.parse(source)
    found = [(item.target, item.own, item.in_function) for item in imports_in(parsed)]
    assert found == [
        ("__init__", True, False),
        ("paths", True, False),
        ("linux.mount", True, False),
        ("errors", True, False),
        ("os.path", False, False),
        ("json", False, True),
    ]
    assert {name for name, _ in mentions(parsed, TALK)} == {"print", "sys.argv"}
