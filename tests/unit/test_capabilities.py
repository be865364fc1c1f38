"""Capability names, and Docker's rules for adding and dropping them."""

from __future__ import annotations

import pytest

from rdock.container.capability_sets import DEFAULT, resolve
from rdock.errors import InvalidParameter
from rdock.linux import capabilities


def test_numbers_are_the_kernels() -> None:
    assert len(capabilities.NAMES) == 41
    assert capabilities.KNOWN["CAP_CHOWN"] == 0
    assert capabilities.KNOWN["CAP_SYS_ADMIN"] == 21
    assert capabilities.KNOWN["CAP_SETFCAP"] == 31
    assert capabilities.KNOWN["CAP_CHECKPOINT_RESTORE"] == 40


def test_last_cap_agrees_with_proc() -> None:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert capabilities.last_cap() == int(file.read())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CAP_NET_ADMIN", "CAP_NET_ADMIN"),
        ("net_admin", "CAP_NET_ADMIN"),
        ("cap_Net_Admin", "CAP_NET_ADMIN"),
        ("all", "ALL"),
        ("ALL", "ALL"),
    ],
)
def test_parse(text: str, name: str) -> None:
    assert capabilities.parse(text) == name


@pytest.mark.parametrize("text", ["", "CAP_", "CAP_ALL", "NET-ADMIN", "net_admin ", "CAP_CAP_CHOWN", "21"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="CAP_"):
        capabilities.parse(text)


def test_masks_and_names_are_inverse() -> None:
    assert capabilities.mask(["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]) == 1 | 1 << 40
    assert capabilities.names(capabilities.mask(capabilities.NAMES)) == list(capabilities.NAMES)


def test_default_is_at_most_dockers_fourteen() -> None:
    docker = 0x00000000A80425FB
    assert capabilities.mask(DEFAULT) & ~docker == 0
    assert resolve([], [], False) == list(DEFAULT)


def test_default_is_listed_in_kernel_order() -> None:
    assert capabilities.names(capabilities.mask(DEFAULT)) == list(DEFAULT)


def test_add_and_drop() -> None:
    assert "CAP_NET_ADMIN" in resolve(["net_admin"], [], False)
    assert "CAP_CHOWN" not in resolve([], ["CHOWN"], False)
    assert resolve(["net_admin", "net_admin"], [], False).count("CAP_NET_ADMIN") == 1


def test_what_is_dropped_and_added_is_added() -> None:
    assert "CAP_CHOWN" in resolve(["CHOWN"], ["CHOWN"], False)


def test_all() -> None:
    everything = capabilities.supported()
    assert resolve(["ALL"], [], False) == everything
    assert resolve(["all"], ["sys_admin"], False) == [n for n in everything if n != "CAP_SYS_ADMIN"]
    assert resolve([], ["ALL"], False) == []
    assert resolve(["kill"], ["ALL"], False) == ["CAP_KILL"]
    # Docker's: adding all wins over dropping all.
    assert resolve(["ALL"], ["ALL"], False) == everything


def test_privileged_ignores_the_rest() -> None:
    assert resolve([], ["ALL"], True) == capabilities.supported()


@pytest.mark.parametrize("privileged", [False, True])
def test_unknown_is_refused_in_dockers_words(privileged: bool) -> None:
    with pytest.raises(InvalidParameter, match=r'^invalid CapAdd: unknown capability: "CAP_FOO"$'):
        resolve(["foo"], [], privileged)
    with pytest.raises(InvalidParameter, match=r'^invalid CapDrop: unknown capability: "CAP_FOO"$'):
        resolve([], ["CAP_FOO"], privileged)


def test_name_unknown_to_this_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "last_cap", lambda: 37)
    with pytest.raises(InvalidParameter, match=r"not supported by your kernel.*CAP_BPF"):
        resolve(["bpf"], [], False)
    assert "CAP_BPF" not in resolve(["ALL"], [], False)
