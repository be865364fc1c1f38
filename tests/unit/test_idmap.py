"""Id maps: reading the sub-id files whatever is in them, and planning maps that the kernel takes."""

from __future__ import annotations

import os
import random

import pytest

from rdock.linux import capabilities, idmap
from rdock.linux.idmap import IdMap, Mapping, Range

SUBUID = """\
root:100000:65536
# a comment
alice:165536:65536
bob:231072:65536
1001:300000:10
alice:400000:1000
containers:2147483647:1000
"""


def test_ranges_by_name_and_number_in_order() -> None:
    assert idmap.parse_ranges(SUBUID, ["alice", "1001"]) == [
        Range(165536, 65536),
        Range(300000, 10),
        Range(400000, 1000),
    ]
    assert idmap.parse_ranges(SUBUID, ["carol"]) == []


@pytest.mark.parametrize(
    "line",
    [
        "", "alice", "alice:", "alice:1", "alice:1:", "alice::1", "alice:1:2:3", "alice:x:1", "alice:-5:10",
        "alice: 5:10", "alice:5:10 ", "alice:+5:10", "alice:1_0:10", "alice:٣:10", "alice:²:1", "alice:5:0",
        "alice:0:65536", "alice:4294967295:1", "alice:4294967290:10", "alice:99999999999999999999:1",
        "alice:5:" + "9" * 100000, " alice:5:10", "alicea:5:10", "ALICE:5:10", "alice:0x10:10", "\0alice:5:10",
    ],
)  # fmt: skip
def test_garbage_is_passed_over(line: str) -> None:
    good = "alice:165536:65536"
    assert idmap.parse_ranges(f"{line}\n{good}\n", ["alice"]) == [Range(165536, 65536)]


def test_files(tmp_path: object) -> None:
    path = f"{tmp_path}/subuid"
    assert idmap.read_ranges(path, "alice", 1000) == []
    assert idmap.read_ranges(str(tmp_path), "alice", 1000) == []
    with open(path, "wb") as file:
        file.write(b"\xff\xfe:1:2\r\nalice:100:5\n1000:200:5")
    assert idmap.read_ranges(path, "alice", 1000) == [Range(100, 5), Range(200, 5)]
    assert idmap.read_ranges(path, "", 1000) == [Range(200, 5)]


def test_getsubids_output() -> None:
    text = "0: alice 100000 65536\n1: alice 300000 10\nError fetching ranges\n2: alice -1 5\n"
    assert idmap.parse_getsubids(text) == [Range(100000, 65536), Range(300000, 10)]
    assert idmap.parse_getsubids("") == []


def test_ranges_for_root(tmp_path: object) -> None:
    path = f"{tmp_path}/subuid"

    def with_text(text: str) -> list[Range]:
        with open(path, "w") as file:
            file.write(text)
        return idmap.ranges_for_root(path)

    assert idmap.ranges_for_root(f"{tmp_path}/none") == [Range(idmap.UNRESERVED, 65536)]
    assert with_text(SUBUID) == [Range(100000, 65536)]
    assert with_text("0:5000:10\nalice:1:1\n") == [Range(5000, 10)]
    assert with_text("alice:1:1\ncontainers:5000:10\n") == [Range(5000, 10)]
    # Somebody already has part of the usual place: the next free one.
    taken = f"alice:{idmap.UNRESERVED + 5}:10\nbob:{idmap.UNRESERVED + 15}:65536\n"
    assert with_text(taken) == [Range(idmap.UNRESERVED + 15 + 65536, 65536)]


# -- plan ----------------------------------------------------------------------------------------


def test_subids() -> None:
    planned = idmap.plan(
        "subids", uid=1000, gid=100, helpers=True, subuids=[Range(100000, 65536)], subgids=[Range(200000, 5)]
    )
    assert planned.uids == (Mapping(0, 1000, 1), Mapping(1, 100000, 65536))
    assert planned.gids == (Mapping(0, 100, 1), Mapping(1, 200000, 5))
    assert planned.size == 6
    assert idmap.map_text(planned.uids) == "0 1000 1\n1 100000 65536\n"
    assert idmap.helper_arguments(42, planned.uids) == ["42", "0", "1000", "1", "1", "100000", "65536"]
    assert idmap.contains(planned.uids, 65536)
    assert not idmap.contains(planned.uids, 65537)
    assert idmap.outside(planned.uids, 0) == 1000
    assert idmap.outside(planned.uids, 65536) == 165535
    assert idmap.outside(planned.uids, 65537) is None


def test_several_ranges_follow_without_holes() -> None:
    planned = idmap.plan(
        "subids", uid=7, gid=7, helpers=True, subuids=[Range(100, 10), Range(50, 10)], subgids=[Range(100, 1)]
    )
    assert planned.uids == (Mapping(0, 7, 1), Mapping(1, 100, 10), Mapping(11, 50, 10))


def test_overlaps_and_the_own_id_are_left_out() -> None:
    planned = idmap.plan(
        "subids", uid=105, gid=7, helpers=True, subuids=[Range(100, 10), Range(95, 20)], subgids=[Range(100, 1)]
    )
    assert planned.uids == (
        Mapping(0, 105, 1), Mapping(1, 100, 5), Mapping(6, 106, 4), Mapping(10, 95, 5), Mapping(15, 110, 5),
    )  # fmt: skip


def test_single() -> None:
    assert idmap.plan("single", uid=5, gid=6) == IdMap("single", (Mapping(0, 5, 1),), (Mapping(0, 6, 1),))


def test_direct_on_a_whole_machine_uses_what_is_reserved() -> None:
    planned = idmap.plan(
        "direct", uid=0, gid=0, direct=True, subuids=[Range(100000, 65536)], subgids=[Range(100000, 65536)],
        offered_uids=[Range(0, 4294967295)], offered_gids=[Range(0, 4294967295)],
    )  # fmt: skip
    assert planned.uids == planned.gids == (Mapping(0, 0, 1), Mapping(1, 100000, 65536))


def test_direct_in_an_outer_container_uses_all_there_is() -> None:
    planned = idmap.plan(
        "direct", uid=0, gid=0, direct=True, subuids=[Range(100000, 65536)], subgids=[Range(100000, 65536)],
        offered_uids=[Range(0, 1), Range(1, 65536)], offered_gids=[Range(0, 65536)],
    )  # fmt: skip
    # The kernel takes a line only if it lies in one line of the map above.
    assert planned.uids == (Mapping(0, 0, 1), Mapping(1, 1, 65536))
    assert planned.gids == (Mapping(0, 0, 65536),)


def test_direct_by_another_user_of_an_outer_container() -> None:
    planned = idmap.plan(
        "direct", uid=10, gid=0, direct=True, offered_uids=[Range(0, 100)], offered_gids=[Range(0, 100)]
    )
    assert planned.uids == (Mapping(0, 10, 1), Mapping(1, 0, 10), Mapping(11, 11, 89))


def test_auto() -> None:
    def mode(**given: object) -> str:
        return idmap.plan("auto", uid=1, gid=1, **given).mode  # type: ignore[arg-type]

    ranges = {"subuids": [Range(100, 10)], "subgids": [Range(100, 10)]}
    assert mode(direct=True, helpers=True, **ranges) == "direct"
    assert mode(helpers=True, **ranges) == "subids"
    assert mode(helpers=False, **ranges) == "single"
    assert mode(helpers=True, subuids=[Range(100, 10)]) == "single"
    assert mode() == "single"


def test_impossible_modes_say_why() -> None:
    with pytest.raises(ValueError, match="CAP_SETUID"):
        idmap.plan("direct", uid=1, gid=1)
    with pytest.raises(ValueError, match="newuidmap and newgidmap are not installed"):
        idmap.plan("subids", uid=1, gid=1, subuids=[Range(5, 5)], subgids=[Range(5, 5)])
    with pytest.raises(ValueError, match="no subordinate ids for this user in /etc/subgid"):
        idmap.plan("subids", uid=1, gid=1, subuids=[Range(5, 5)], helpers=True)
    with pytest.raises(ValueError, match="unknown id mode: x"):
        idmap.plan("x", uid=1, gid=1)


def test_may_write_directly() -> None:
    both = capabilities.mask(["CAP_SETUID", "CAP_SETGID"])
    assert idmap.may_write_directly(both, 1000)
    assert not idmap.may_write_directly(both, 0)
    assert idmap.may_write_directly(both | capabilities.mask(["CAP_SETFCAP"]), 0)
    assert not idmap.may_write_directly(0, 1000)


def test_any_files_give_a_map_that_the_kernel_takes() -> None:
    chance = random.Random(1)
    for _ in range(300):
        ranges = [Range(chance.randrange(1, 3000), chance.randrange(1, 300)) for _ in range(chance.randrange(1, 150))]
        own = chance.randrange(3000)
        for mode, given in (("subids", {"subuids": ranges, "subgids": ranges}), ("direct", {"offered_uids": ranges})):
            uids = idmap.plan(mode, uid=own, gid=own, helpers=True, direct=True, **given).uids  # type: ignore[arg-type]
            assert uids[0] == Mapping(0, own, uids[0].size)
            assert len(uids) <= 340
            assert len(idmap.map_text(uids)) < 4096
            inside = [i for m in uids for i in range(m.inside, m.inside + m.size)]
            outside = [o for m in uids for o in range(m.outside, m.outside + m.size)]
            assert inside == list(range(len(inside)))
            assert len(set(outside)) == len(outside)


# -- maps ----------------------------------------------------------------------------------------


def test_parse_map_is_the_reverse_of_map_text() -> None:
    mappings = (Mapping(0, 1000, 1), Mapping(1, 100000, 65536))
    assert idmap.parse_map(idmap.map_text(mappings)) == mappings
    assert idmap.parse_map("         0          0 4294967295\n") == (Mapping(0, 0, 4294967295),)


def test_own_map_can_be_read() -> None:
    assert idmap.contains(idmap.read_map(), os.getuid())
    assert any(r.start <= os.getgid() < r.start + r.size for r in idmap.offered("gid"))
    with pytest.raises(OSError):
        idmap.read_map("uid", "0")


def test_everything() -> None:
    assert idmap.everything([Range(0, 4294967295)])
    assert not idmap.everything([Range(0, 65536)])
