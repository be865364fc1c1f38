"""The messages of the name server, hostile ones too; the host's resolv.conf; what a loop waits for."""

from __future__ import annotations

import os
import random
import struct
import time
from pathlib import Path

import pytest

from rdock.linux import sockets
from rdock.network import dns, dns_message, resolvers
from rdock.network.dns import View
from rdock.network.watch import Watch

VIEW = View(
    {"web": ["172.30.1.2", "fd00::2"], "web.net": ["172.30.1.2"], "a.b": ["172.30.1.9"], "none": []},
    {"172.30.1.2": "web", "fd00::2": "web", "172.30.1.3": "x" * 64},
    outside=True,
    container="a",
)


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


def question(
    text: str = "web", kind: int = 1, *, flags: int = 0x0100, size: int | None = None, version: int = 0, klass: int = 1
) -> bytes:
    options = b"" if size is None else struct.pack("!BHHIH", 0, 41, size, version << 16, 0)
    counts = struct.pack("!6H", 0x1234, flags, 1, 0, 0, bool(options))
    return counts + name(text) + struct.pack("!HH", kind, klass) + options


def asked(text: bytes) -> dns_message.Query:
    found = dns_message.read(text)
    assert found is not None
    return found


def test_a_question() -> None:
    found = asked(question("WeB.Net", 28, size=1400))
    assert (found.number, found.name, found.kind, found.klass) == (0x1234, "web.net", 28, 1)
    assert (found.size, found.edns, found.fault) == (1400, True, 0)
    assert found.question == b"\3WeB\3Net\0\0\x1c\0\1"  # as it was written: clients compare
    assert asked(question("web", size=100)).size == 512  # RFC 6891 6.2.3
    assert (asked(question()).size, asked(question()).edns) == (512, False)
    assert asked(question("")).name == ""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (question(flags=0x2800), 4),  # UPDATE
        (question(size=512, version=1), 16),
        (question()[:4] + struct.pack("!H", 0) + question()[6:], 1),
        (question()[:4] + struct.pack("!H", 2) + question()[6:] + name("b") + b"\0\1\0\1", 1),
        (question()[:12] + b"\xc0\x0c\0\1\0\1", 1),  # a name that is itself
        (question()[:12] + b"\1a\xc0\x0c\0\1\0\1", 1),
        (question()[:12] + b"\x40a\0\0\1\0\1", 1),  # the kinds of labels that never were
        (question()[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", 1),  # 257 bytes
        (question()[:10] + b"\0\2" + question()[12:] + struct.pack("!BHHIH", 0, 41, 512, 0, 0) * 2, 1),
        (question()[:6] + b"\xff\xff\xff\xff\xff\xff" + question()[12:], 1),
        (question()[:10] + b"\0\1" + question()[12:] + b"\0\0\x29\x02\0\0\0\0\0\xff\xff", 1),  # data that is not there
    ],
)
def test_faulty_questions_are_called_so(text: bytes, code: int) -> None:
    found = asked(text)
    assert found.fault == code
    reply = dns_message.answer(found, found.fault)
    assert reply[:2] == text[:2]
    assert reply[3] & 15 == code & 15
    if code == 16:
        assert reply[-11:] == struct.pack("!BHHIH", 0, 41, 1232, 1 << 24, 0)


def test_what_is_no_question_is_not_answered() -> None:
    """Or two servers would send each other errors for ever."""
    assert dns_message.read(question(flags=0x8100)) is None
    assert all(dns_message.read(question()[:size]) is None for size in range(12))


def test_the_longest_name() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(name(longest)) == 255
    assert asked(question(longest)).name == longest
    assert asked(question(longest + "c")).fault == 1


def test_names_that_cannot_be_written() -> None:
    dotted = question()[:12] + b"\3a.b\0\0\1\0\1"  # one label, not the name a.b
    odd = question()[:12] + b"\2\xff\xfe\0\0\1\0\1"
    for text in (dotted, odd):
        assert (asked(text).name, asked(text).fault) == (None, 0)
        assert dns._records(VIEW, asked(text)) is None


def test_every_truncation_and_many_mutations() -> None:
    """Never an exception, and what is answered fits."""
    chance = random.Random(5)
    valid = [
        question("web.net", 28, size=1232),
        question("2.1.30.172.in-addr.arpa", 12),
        question("2." + "0." * 28 + "0.d.f.ip6.arpa", 12, size=4096),
        dns_message.answer(asked(question()), 0, [dns_message.address_record(1, "10.0.0.1")]),
    ]
    tried = [text[:size] for text in valid for size in range(len(text) + 1)]
    for _ in range(20000):
        text = bytearray(chance.choice(valid))
        for _ in range(chance.randint(1, 4)):
            text[chance.randrange(len(text))] = chance.choice((0, 1, 0xC0, 0x0C, 0xFF, 0x3F, chance.randrange(256)))
        tried += [bytes(text), chance.randbytes(chance.randrange(80))]
    questions = faults = 0
    for text in tried:
        dns_message.is_answer(text, int.from_bytes(text[:2], "big"), valid[0][12:24])
        found = dns_message.read(text)
        if found is not None:
            faults += found.fault != 0
            records = None if found.fault else dns._records(VIEW, found)
            questions += records is not None
            for limit in (found.size, 512):
                assert len(dns_message.answer(found, found.fault, records or [], limit=limit)) <= limit
    assert questions > 1000
    assert faults > 1000


@pytest.mark.parametrize("size", [None, 512, 600, 1232, 4096])
def test_answers_are_cut_at_a_record(size: int | None) -> None:
    records = [dns_message.address_record(1, f"10.0.{at >> 8}.{at & 255}") for at in range(600)]
    found = asked(question(size=size))
    text = dns_message.answer(found, 0, records, limit=found.size)
    count = struct.unpack_from("!H", text, 6)[0]
    assert text[2] & 2  # TC
    assert len(text) == 12 + 9 + 16 * count + (11 if size else 0)
    assert found.size - 16 < len(text) <= found.size
    assert not dns_message.answer(found, 0, records)[2] & 2
    assert not dns_message.answer(found, 0, records[:count], limit=found.size)[2] & 2


def test_records() -> None:
    def records(text: str, kind: int, klass: int = 1) -> list[bytes] | None:
        return dns._records(VIEW, asked(question(text, kind, klass=klass)))

    assert records("web", 1) == [b"\xc0\x0c\0\1\0\1\0\0\2\x58\0\4\xac\x1e\1\2"]
    assert records("WEB", 28) == [b"\xc0\x0c\0\x1c\0\1\0\0\2\x58\0\x10" + bytes([0xFD, *[0] * 14, 2])]
    assert len(records("web", 255) or []) == 2
    for text, kind in (("web.net", 28), ("web", 15), ("web", 33), ("web", 65), ("web", 12), ("none", 1)):
        assert records(text, kind) == []
    assert records("2.1.30.172.in-addr.arpa", 12) == [b"\xc0\x0c\0\x0c\0\1\0\0\2\x58\0\5\3web\0"]
    assert records("2." + "0." * 29 + "d.f.ip6.arpa", 12) == [b"\xc0\x0c\0\x0c\0\1\0\0\2\x58\0\5\3web\0"]
    assert records("3.1.30.172.in-addr.arpa", 12) == []  # a container may be called what no name can be
    for text, kind in (("other", 1), ("", 2), ("9.1.30.172.in-addr.arpa", 12), ("2.1.30.172.in-addr.arpa", 1)):
        assert records(text, kind) is None
    assert records("web", 1, klass=3) is None


@pytest.mark.parametrize(
    "text",
    ["1.30.172.in-addr.arpa", "x.1.30.172.in-addr.arpa", "256.1.1.1.in-addr.arpa", "02.1.30.172.in-addr.arpa",
     "0.2.1.30.172.in-addr.arpa", "0.ip6.arpa", "g." + "0." * 31 + "ip6.arpa", "00." + "0." * 31 + "ip6.arpa",
     "\0.1.30.172.in-addr.arpa", "web", ""],
)  # fmt: skip
def test_no_address(text: str) -> None:
    assert dns_message.address_of(text) is None


def test_answers_of_others() -> None:
    sent = asked(question("Example.org", 65))
    good = question("Example.org", 65, flags=0x8180)

    def fits(text: bytes, number: int = 0x1234) -> bool:
        return dns_message.is_answer(text, number, sent.question)

    assert fits(good)
    assert fits(question("example.ORG", 65, flags=0x8180))
    assert not fits(good, 0x1235)
    assert not fits(question("Example.org", 65))  # a question
    assert not fits(question("example.com", 65, flags=0x8180))
    assert not fits(question("example.org", 97, flags=0x8180))  # would be "the same but for case"
    assert not any(fits(good[:size]) for size in range(len(good)))
    assert not fits(good[:4] + b"\0\2" + good[6:])
    empty = good[:4] + b"\0\0" + good[6:12]
    assert not fits(empty)
    assert not fits(empty[:3] + b"\x83" + empty[4:])
    assert fits(empty[:3] + b"\x81" + empty[4:])


# -- resolv.conf ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver\t192.0.2.1 # x\nnameserver 127.0.0.53\n", ["192.0.2.1", "127.0.0.53"]),
        ("nameserver fe80::1%eth0\nnameserver ::1\noptions ndots:3", ["fe80::1%eth0", "::1"]),
        ("#nameserver 192.0.2.1\n;nameserver 192.0.2.2\nnameservers 192.0.2.3\n nameserver 192.0.2.4", ["127.0.0.1"]),
        ("nameserver\nnameserver example.org\nnameserver 1.2.3\nnameserver 1.2.3.4%lo\nnameserver \0\n", ["127.0.0.1"]),
        ("".join(f"nameserver 192.0.2.{at}\n" for at in range(9)), ["192.0.2.0", "192.0.2.1", "192.0.2.2"]),
        ("", ["127.0.0.1"]),
    ],
)
def test_servers_of_a_resolv_conf(text: str, servers: list[str], tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(text)
    assert resolvers.Resolvers(str(tmp_path / "resolv.conf")).servers() == servers


def test_a_resolv_conf_is_read_again_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    found = resolvers.Resolvers(str(path))
    assert found.servers() == ["127.0.0.1"]
    path.write_text("nameserver 192.0.2.1\n")
    assert found.servers() == ["192.0.2.1"]
    assert found.servers() is found.servers()
    (tmp_path / "new").write_text("nameserver 192.0.2.2\n")
    os.replace(tmp_path / "new", path)
    assert found.servers() == ["192.0.2.2"]
    path.unlink()
    path.symlink_to("elsewhere")
    assert found.servers() == ["127.0.0.1"]
    (tmp_path / "elsewhere").write_bytes(b"nameserver 192.0.2.3\n\xff\xfe")
    assert found.servers() == ["192.0.2.3"]


def test_endpoints() -> None:
    assert resolvers.endpoint("192.0.2.1") == (sockets.AF_INET, ("192.0.2.1", 53))
    assert resolvers.endpoint("fe80::1%lo") == (sockets.AF_INET6, ("fe80::1", 53, 0, 1))
    assert resolvers.endpoint("fe80::1%7") == (sockets.AF_INET6, ("fe80::1", 53, 0, 7))
    with pytest.raises(OSError, match="no interface"):
        resolvers.endpoint("fe80::1%gone0")
    for number in ("4294967296", "9" * 5000):
        with pytest.raises(OSError, match="no such link"):
            resolvers.endpoint(f"fe80::1%{number}")


# -- what a loop waits for -----------------------------------------------------------------------


def test_deadlines() -> None:
    waiting, late = Watch(), list[str]()
    assert waiting.timeout() is None
    waiting.expect("first", 0.02, lambda: late.append("first"))
    waiting.expect("dropped", 0.01, lambda: late.append("dropped"))
    waiting.expect("later", 60, lambda: late.append("later"))
    waiting.drop("dropped")
    waiting.tick()
    assert late == []
    assert 0 < (waiting.timeout() or 0) <= 0.02
    time.sleep(0.03)
    assert waiting.timeout() == 0
    waiting.tick()
    assert late == ["first"]
    assert 59 < (waiting.timeout() or 0) <= 60
    waiting.drop("later")
    assert waiting.timeout() is None
    waiting.expect("new", 30, lambda: None)
    assert 29 < (waiting.timeout() or 0) <= 30


def test_one_that_is_late_may_change_the_others() -> None:
    waiting, late = Watch(), list[str]()

    def first() -> None:
        late.append("first")
        waiting.drop("second")
        waiting.expect("third", 60, lambda: late.append("third"))
        waiting.expect("first", 60, first)

    waiting.expect("first", 0, first)
    waiting.expect("second", 0, lambda: late.append("second"))
    waiting.expect("third", 0, lambda: late.append("third"))
    waiting.tick()
    assert late == ["first"]
    assert (waiting.timeout() or 0) > 59
