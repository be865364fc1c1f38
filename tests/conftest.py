"""What all tests share: the program in directories of its own, and the variants it is tested in.

A test that takes `rdock` runs the program as a user would. One that also takes `storage` runs once for each
storage driver, one that takes `runtime` once for each OCI runtime. `fresh_rdock` has a store of its own,
for tests that break it. `in_namespace` calls a function as root of a user namespace.
The session fails if any process or mount of rdock is left at its end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import namespace
from tests.program import Home, Rdock

STARTER = "rdock/starter"
STORAGE_DRIVERS = ("overlay", "fuse-overlayfs", "copy")
RUNTIMES = ("rdock", "crun")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--noids", action="store_true", help="run only the tests for a user without subordinate ids")
    parser.addoption("--as-root", action="store_true", help="run only the tests for the machine's root")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "noids: for a user without subordinate ids (scripts/test starts these apart)")
    config.addinivalue_line("markers", "as_root: for the machine's root (scripts/test starts these apart)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = {marker: bool(config.getoption(marker)) for marker in ("noids", "as_root")}
    wanted = [
        item
        for item in items
        if all((item.get_closest_marker(marker) is not None) == asked for marker, asked in chosen.items())
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(wanted)])
    items[:] = wanted
    if not config.getoption("slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


# -- the program ---------------------------------------------------------------------------------


def _close(program: Rdock) -> None:
    """End a home: everything of it must be gone in the time that rdock promises."""
    program.remove_containers()
    left = program.home.leftovers()
    program.home.remove()
    if left:
        pytest.fail("left over at the end:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="session")
def shared_rdock() -> Iterator[Rdock]:
    """The program with the store that most tests share, since filling one takes time."""
    program = Rdock(Home())
    yield program
    _close(program)


@pytest.fixture
def rdock(shared_rdock: Rdock, request: pytest.FixtureRequest) -> Iterator[Rdock]:
    """The program, in the variant that the test's other fixtures ask for; its containers go when the test ends."""
    options = list(shared_rdock.options)
    variables = dict(shared_rdock.variables)
    if "storage" in request.fixturenames:
        options += ["--storage-driver", request.getfixturevalue("storage")]
    if "runtime" in request.fixturenames:
        variables |= _choose_runtime(shared_rdock.home, request.getfixturevalue("runtime"))
    yield Rdock(shared_rdock.home, options, variables)
    shared_rdock.remove_containers()


@pytest.fixture
def fresh_rdock() -> Iterator[Rdock]:
    """The program with an empty store of its own."""
    program = Rdock(Home())
    yield program
    _close(program)


# -- variants ------------------------------------------------------------------------------------


def _choose_runtime(home: Home, name: str) -> dict[str, str]:
    """By a settings file of its own, so that every command of the test speaks of the same runtime."""
    directory = home.root / f"config-{name}"
    settings = directory / "rdock" / "config.json"
    if not settings.exists():
        settings.parent.mkdir(mode=0o700, parents=True)
        settings.write_text(f'{{"runtime": "{name}"}}\n')
    return {"XDG_CONFIG_HOME": str(directory)}


def _try_out(program: Rdock, what: str, name: str, required: bool) -> None:
    """Skip where a variant does not work on this machine; fail where it must."""
    result = program("run", "--rm", "--network", "none", STARTER, "true")
    if result.code != 0:
        problem = f"{what} {name} does not work here:\n{result}"
        if required:
            pytest.fail(problem, pytrace=False)
        pytest.skip(problem)


_tried: dict[str, BaseException | None] = {}


def _once(key: str, check: Callable[[], None]) -> None:
    """Try a variant out once in a session and give every test the same answer."""
    if key not in _tried:
        try:
            check()
            _tried[key] = None
        except (pytest.skip.Exception, pytest.fail.Exception) as e:
            _tried[key] = e
    problem = _tried[key]
    if problem is not None:
        raise problem


@pytest.fixture(params=STORAGE_DRIVERS)
def storage(request: pytest.FixtureRequest, shared_rdock: Rdock) -> str:
    """Name of a storage driver that works here. RDOCK_REQUIRE_DRIVERS names those that must (a comma between)."""
    name: str = request.param
    required = ["copy", *os.environ.get("RDOCK_REQUIRE_DRIVERS", "").split(",")]
    program = Rdock(shared_rdock.home, ["--storage-driver", name])
    _once(f"storage {name}", lambda: _try_out(program, "storage driver", name, name in required))
    return name


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, shared_rdock: Rdock) -> str:
    """Name of an OCI runtime that works here. RDOCK_REQUIRE_RUNTIMES names those that must (a comma between)."""
    name: str = request.param
    required = ["rdock", *os.environ.get("RDOCK_REQUIRE_RUNTIMES", "").split(",")]
    program = Rdock(shared_rdock.home, variables=_choose_runtime(shared_rdock.home, name))
    _once(f"runtime {name}", lambda: _try_out(program, "runtime", name, name in required))
    return name


# -- other things --------------------------------------------------------------------------------


@pytest.fixture
def in_namespace() -> Callable[..., Any]:
    """in_namespace(function, *args): what the function returns when called as root of a user namespace."""
    return namespace.in_namespace


@pytest.fixture(scope="session")
def debian_tree() -> Path:
    """A tar file with a minimal Debian tree, which scripts/test makes."""
    path = Path(os.environ.get("RDOCK_DEBIAN_TREE") or "/nonexistent")
    if not path.is_file():
        pytest.skip("no Debian tree (scripts/lib/debian-tree makes one; RDOCK_DEBIAN_TREE names it)")
    return path
