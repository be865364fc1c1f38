"""The capability sets that a process really ends up with, read from /proc by a child in a user namespace."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from rdock.container.capability_sets import DEFAULT
from rdock.linux import capabilities, idmap
from rdock.linux.capabilities import Sets
from rdock.linux.libc import libc

DEFAULT_MASK = capabilities.mask(DEFAULT)
CLONE_NEWUSER = 0x10000000


def planned_map() -> idmap.IdMap:
    """The best map that this machine gives to this user."""
    uid = os.geteuid()
    name = pwd.getpwuid(uid).pw_name
    direct = idmap.may_write_directly(capabilities.current().effective, uid)
    find = idmap.ranges_for_root if uid == 0 else lambda path: idmap.read_ranges(path, name, uid)
    return idmap.plan(
        "auto",
        uid=uid,
        gid=os.getegid(),
        subuids=find(idmap.SUBUID),
        subgids=find(idmap.SUBGID),
        helpers=bool(shutil.which("newuidmap") and shutil.which("newgidmap")),
        direct=direct,
        offered_uids=idmap.offered("uid"),
        offered_gids=idmap.offered("gid"),
    )


def in_user_namespace(function: Callable[[], Any], *, mapped: idmap.IdMap | None = None) -> Any:
    """What `function` returns (as JSON) in a child that is root of a new user namespace."""
    mapped = mapped or planned_map()
    result_read, result_write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if libc.unshare(ctypes.c_int(CLONE_NEWUSER)) < 0:
                os._exit(77)
            os.write(result_write, b"\n")
            os.read(go_read, 1)
            os.setgroups([]) if mapped.mode != "single" else None
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            os.write(result_write, json.dumps(function()).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(result_write)
    if os.read(result_read, 1):
        if mapped.mode == "subids":
            subprocess.run(["newuidmap", *idmap.helper_arguments(child, mapped.uids)], check=True)
            subprocess.run(["newgidmap", *idmap.helper_arguments(child, mapped.gids)], check=True)
        else:
            idmap.write(str(child), mapped)
    os.write(go_write, b"x")
    with open(result_read, "rb") as file:
        text = file.read()
    os.close(go_read)
    os.close(go_write)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 77:
        pytest.skip("no user namespaces here")
    assert status == 0
    return json.loads(text)


def status() -> dict[str, Any]:
    """Ids and capability sets of the calling process as the kernel shows them."""
    with open("/proc/self/status") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    sets = {key: int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    return {**sets, "Uid": fields["Uid"].split(), "NoNewPrivs": fields["NoNewPrivs"].strip()}


def after_exec() -> dict[str, Any]:
    """As status, of a program that this process executes: what a container's process would have."""
    text = subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, text=True, check=True).stdout
    fields = dict(line.split(":\t", 1) for line in text.splitlines())
    return {key: int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def everything() -> int:
    return capabilities.mask(capabilities.supported())


def become(uid: int, sets: Sets) -> None:
    capabilities.limit(sets.bounding)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    capabilities.settle(
        effective=sets.effective, permitted=sets.permitted, inheritable=sets.inheritable, ambient=sets.ambient
    )


def needs_ids() -> None:
    if planned_map().size < 1001:
        pytest.skip("this user has no sub-ids, so there is no second user to become")


def test_current_agrees_with_proc() -> None:
    now = capabilities.current()
    there = status()
    assert [*now._asdict().values()] == [there[k] for k in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")]


def test_root_of_a_new_namespace_has_all() -> None:
    seen = in_user_namespace(lambda: [*capabilities.current()._asdict().values()])
    assert seen == [everything(), everything(), 0, everything(), 0]


def test_root_with_the_default_set() -> None:
    def child() -> Any:
        capabilities.apply(Sets(DEFAULT_MASK, DEFAULT_MASK, 0, DEFAULT_MASK, 0))
        return [status(), after_exec()]

    here, executed = in_user_namespace(child)
    for seen in (here, executed):
        assert seen["CapInh"] == seen["CapAmb"] == 0
        assert seen["CapPrm"] == seen["CapEff"] == seen["CapBnd"] == DEFAULT_MASK


def test_other_user_has_none() -> None:
    """CVE-2018-10856: a user that is not root keeps nothing, neither now nor after execve."""
    needs_ids()

    def child() -> Any:
        become(1000, Sets(bounding=DEFAULT_MASK))
        return [status(), after_exec()]

    here, executed = in_user_namespace(child)
    assert here["Uid"] == ["1000"] * 4
    for seen in (here, executed):
        assert seen["CapInh"] == seen["CapPrm"] == seen["CapEff"] == seen["CapAmb"] == 0
        assert seen["CapBnd"] == DEFAULT_MASK


def test_other_user_with_ambient_capabilities_keeps_exactly_those() -> None:
    needs_ids()
    wanted = capabilities.mask(["CAP_NET_BIND_SERVICE"])

    def child() -> Any:
        become(1000, Sets(wanted, wanted, wanted, DEFAULT_MASK, wanted))
        return [status(), after_exec()]

    for seen in in_user_namespace(child):
        assert seen["CapPrm"] == seen["CapEff"] == seen["CapInh"] == seen["CapAmb"] == wanted
        assert seen["CapBnd"] == DEFAULT_MASK


def test_ambient_without_inheritable_is_an_error() -> None:
    def child() -> str:
        try:
            capabilities.apply(Sets(DEFAULT_MASK, DEFAULT_MASK, 0, DEFAULT_MASK, DEFAULT_MASK))
        except PermissionError as e:
            return str(e.filename)
        return "no error"

    assert in_user_namespace(child) == "prctl"


def test_dropped_is_gone_for_good() -> None:
    def child() -> Any:
        capabilities.apply(Sets())
        refused = []
        for sets in (Sets(effective=1, permitted=1), Sets(effective=1), Sets(inheritable=1)):
            try:
                capabilities.apply(sets)
            except PermissionError:
                refused.append(True)
        return [refused, after_exec()]

    refused, executed = in_user_namespace(child)
    assert refused == [True] * 3
    assert set(executed.values()) == {0}


def test_no_new_privileges() -> None:
    def child() -> Any:
        before = capabilities.has_no_new_privileges()
        capabilities.set_no_new_privileges()
        return [before, capabilities.has_no_new_privileges(), status()["NoNewPrivs"]]

    before, after, seen = in_user_namespace(child)
    assert (after, seen) == (True, "1")
    assert before in (False, True)


def triples(maps: Iterable[idmap.Mapping]) -> list[list[int]]:
    return [[m.inside, m.outside, m.size] for m in maps]


def test_single_id_map() -> None:
    single = idmap.plan("single", uid=os.geteuid(), gid=os.getegid())
    seen = in_user_namespace(lambda: [os.getuid(), os.getgid(), triples(idmap.read_map()), status()], mapped=single)
    assert seen[0] == seen[1] == 0
    assert seen[2] == [[0, os.geteuid(), 1]]
    assert seen[3]["CapEff"] == everything()


def test_map_is_what_was_planned() -> None:
    mapped = planned_map()
    seen = in_user_namespace(lambda: [triples(idmap.read_map("uid")), triples(idmap.read_map("gid"))])
    assert seen == [triples(mapped.uids), triples(mapped.gids)]
