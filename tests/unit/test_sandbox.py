"""A container's /etc/hosts, which the container may hold on to."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from pathlib import Path

import pytest

from rdock.network import sandbox


def test_another_address_is_written_in_place(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1\tlocalhost\n172.17.0.2\tdb other\n# 172.17.0.2 db\n10.0.0.1 own db\n")
    before = hosts.stat().st_ino
    sandbox.move_host(str(tmp_path), "db", "172.17.0.31")
    assert hosts.read_text() == "127.0.0.1\tlocalhost\n172.17.0.31\tdb other\n# 172.17.0.2 db\n10.0.0.1 own db\n"
    assert hosts.stat().st_ino == before


def test_a_container_with_a_lease_on_its_hosts_holds_nobody_up(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("172.17.0.2\tdb\n")
    fd = os.open(hosts, os.O_RDONLY)
    handler = signal.signal(signal.SIGIO, signal.SIG_IGN)  # by which the kernel asks for the lease
    try:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError:
            pytest.skip("no leases on this file system")
        pid = os.fork()
        if pid == 0:
            sandbox.move_host(str(tmp_path), "db", "172.17.0.3")
            os._exit(0)
        pidfd = os.pidfd_open(pid)
        ended = select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)  # before the child is waited for, who may wait for that
        assert os.waitpid(pid, 0)[1] == 0
        assert ended
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, handler)
    assert hosts.read_text() == "172.17.0.2\tdb\n"
