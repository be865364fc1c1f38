"""PostgreSQL from Debian's packages keeps what it has acknowledged on a named volume, whatever happens around it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import wait_for
from tests.conftest import _close
from tests.program import Home, Rdock

INSTALL = """
apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql
mkdir /data && chown postgres:postgres /data && chmod 700 /data && ln -s /usr/lib/postgresql/*/bin /pg
"""
# The directory belongs to postgres: the volume has got that from the image.
SERVER = """
test -s /data/PG_VERSION || /pg/initdb -D /data -A trust >/dev/null || exit 1
exec /pg/postgres -D /data -k /tmp -c listen_addresses=
"""


@pytest.fixture
def other_rdock() -> Iterator[Rdock]:
    """A store that shares nothing with the first."""
    program = Rdock(Home())
    yield program
    _close(program)


def serve(rdock: Rdock) -> None:
    rdock.ok("run", "-d", "--name", "db", "--network", "none", "-u", "postgres", "-v", "pgdata:/data", "postgres",
             "sh", "-c", SERVER)  # fmt: skip
    wait_for(lambda: rdock("exec", "db", "/pg/pg_isready", "-q", "-h", "/tmp").code == 0, "the server", seconds=90)


def ask(rdock: Rdock, query: str) -> str:
    return rdock.ok("exec", "-u", "postgres", "db", "/pg/psql", "-h", "/tmp", "-XAtqc", query)


@pytest.mark.slow
def test_postgres(fresh_rdock: Rdock, other_rdock: Rdock, debian_tree: Path, tmp_path: Path) -> None:
    rdock = fresh_rdock
    rdock.ok("import", str(debian_tree), "debian:12")
    rdock.ok("run", "--name", "install", "debian:12", "sh", "-ec", INSTALL, timeout=500)
    rdock.ok("commit", "-q", "install", "postgres", timeout=200)
    rdock.ok("rm", "install")

    serve(rdock)
    assert rdock.ok("exec", "db", "stat", "-c", "%U %a", "/data") == "postgres 700"
    ask(rdock, "CREATE TABLE kept (id serial PRIMARY KEY, text text)")
    ask(rdock, "INSERT INTO kept (text) SELECT repeat('x', 1000) FROM generate_series(1, 1000)")

    # Removed by force, and made anew.
    rdock.ok("rm", "-f", "db")
    serve(rdock)
    assert ask(rdock, "SELECT count(*) FROM kept") == "1000"

    # Everything is killed while it writes; what was acknowledged is there.
    writer = subprocess.Popen(
        rdock.argv("exec", "-i", "-u", "postgres", "db", "/pg/psql", "-h", "/tmp", "-XAtq"),
        env=rdock.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert writer.stdin and writer.stdout
    for _ in range(20):
        writer.stdin.write("INSERT INTO kept (text) VALUES ('more') RETURNING id;\n" * 50)
    writer.stdin.flush()
    acknowledged = [int(writer.stdout.readline()) for _ in range(100)]
    while rdock.home.processes():
        for line in rdock.home.processes():
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    rdock.ok("rm", "-f", "db")
    serve(rdock)
    found = {int(line) for line in ask(rdock, "SELECT id FROM kept WHERE text = 'more'").split()}
    assert found >= {*acknowledged} and len(acknowledged) >= 100
    total = ask(rdock, "SELECT count(*) FROM kept")

    # In another store, with another user's ids below.
    rdock.ok("stop", "db")
    rdock.ok("volume", "export", "-o", str(tmp_path / "pgdata.tar"), "pgdata")
    rdock.ok("save", "-o", str(tmp_path / "image.tar"), "postgres", timeout=200)
    other_rdock.ok("load", "-q", "-i", str(tmp_path / "image.tar"), timeout=200)
    other_rdock.ok("volume", "create", "pgdata")
    other_rdock.ok("volume", "import", "pgdata", str(tmp_path / "pgdata.tar"))
    serve(other_rdock)
    assert ask(other_rdock, "SELECT count(*) FROM kept") == total
    ask(other_rdock, "INSERT INTO kept (text) VALUES ('there too')")
