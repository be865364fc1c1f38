"""Which addresses a private network gets beside the routes that the host has."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdock.network import subnet

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def line(destination: str, mask: str) -> str:
    return f"eth0\t{destination}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("routes", "base"),
    [
        ("", "10.0.2"),
        (line("00000000", "00000000"), "10.0.2"),  # the default route
        (line("0002000A", "00FFFFFF"), "10.209.46"),  # 10.0.2.0/24, as in a guest of VirtualBox
        (line("0F02000A", "FFFFFFFF"), "10.209.46"),  # one address of it
        (line("0000000A", "000000FF"), "172.29.46"),  # 10.0.0.0/8
        (line("0000000A", "000000FF") + line("000010AC", "0000F0FF"), "192.168.209"),  # and 172.16.0.0/12
        (line("0003000A", "00FFFFFF"), "10.0.2"),  # 10.0.3.0/24
    ],
)
def test_no_network_of_the_host_is_covered(routes: str, base: str, tmp_path: Path) -> None:
    (tmp_path / "route").write_text(HEAD + routes)
    assert subnet.choose(str(tmp_path / "route")) == subnet.Subnet(base)


def test_if_all_are_taken_or_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(HEAD + line("00000000", "00000080") + line("00000080", "00000080"))
    assert subnet.choose(str(tmp_path / "route")).base == "10.0.2"
    assert subnet.choose("/nonexistent").base == "10.0.2"


def test_addresses() -> None:
    found = subnet.Subnet("10.0.2")
    assert (found.cidr, found.gateway, found.resolver, found.address) == (
        "10.0.2.0/24", "10.0.2.2", "10.0.2.3", "10.0.2.100",
    )  # fmt: skip
