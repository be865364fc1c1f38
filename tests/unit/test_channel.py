"""What comes over the channel from a process that a container might have got hold of."""

from __future__ import annotations

import gc
import os
import pty

import pytest

from rdock.linux import sockets
from rdock.runtime.channel import Channel, Failed


def open_descriptors() -> int:
    gc.collect()  # of the sockets of earlier tests
    return len(os.listdir("/proc/self/fd"))


MALFORMED = [
    b"x", b"\xff\xff\xff\xff", b"null", b"[]", b"1", b"{}", b'{"kind', b'"kind"', b'{"Kind":"ready"}',
    b'{"kind":"\xff"}', b'{"kind":"failed"}',
    b'{"kind":"failed","step":"s","errno":"x","path":""}', b'{"kind":"failed","step":"s","errno":1e999,"path":""}',
    b'{"kind":"failed","step":"s","errno":99999999999999999999,"path":""}', b"[" * 60000,
]  # fmt: skip


@pytest.mark.parametrize("packet", MALFORMED, ids=lambda packet: repr(packet[:40]))
def test_what_is_no_message_is_a_failure_and_leaves_no_descriptor(packet: bytes) -> None:
    left, right = sockets.packet_pair()
    before = open_descriptors()
    sockets.send_fds(right, packet, [0, 1, 2])
    with pytest.raises(Failed):
        Channel(left).receive(terminal=True)
    assert open_descriptors() == before


def test_descriptors_that_come_with_another_message_are_closed() -> None:
    left, right = sockets.packet_pair()
    before = open_descriptors()
    for number in (1, 4, 9):
        sockets.send_fds(right, b'{"kind":"ready"}', [0] * number)
        assert Channel(left).receive(terminal=True) == ({"kind": "ready"}, -1)
        sockets.send_fds(right, b'{"kind":"ready"}', [0] * number)
        assert Channel(left).expect("ready") == {"kind": "ready"}
    assert open_descriptors() == before


def test_terminal_comes_once_and_only_when_asked_for() -> None:
    left, right = Channel.pair()
    master, slave = pty.openpty()
    before = open_descriptors()
    right.send("terminal", fds=[master])
    message, received = left.receive(terminal=True)
    assert message and os.path.sameopenfile(master, received)
    os.close(received)
    refused: tuple[tuple[bool, list[int]], ...] = (
        (False, [master]), (True, []), (True, [slave]), (True, [0]), (True, [master, master]),
    )  # fmt: skip
    for asked, fds in refused:
        right.send("terminal", fds=fds)
        with pytest.raises(Failed):
            left.receive(terminal=asked)
    assert open_descriptors() == before
    os.close(master)
    os.close(slave)


def test_failures_and_the_end() -> None:
    left, right = Channel.pair()
    right.send_failure("chdir", OSError(2, "gone", "/srv"))
    with pytest.raises(Failed) as caught:
        left.receive()
    assert (caught.value.step, caught.value.errno, caught.value.path) == ("chdir", 2, "/srv")
    right.close()
    assert left.receive() == (None, -1)
