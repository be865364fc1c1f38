"""The reserve of free space: hostile or merely huge images stop before the disk is full.

A disk without a free byte stops more than rdock, and not every program says so as clearly.
"""

from __future__ import annotations

import os

from rdock.errors import SystemFailure, reason

RESERVED_BYTES = 64 << 20
RESERVED_FILES = 1000


def check_space(fd: int, what: str) -> None:
    """Raise SystemFailure if the file system of `fd` has less room than the reserve."""
    try:
        found = os.fstatvfs(fd)
    except OSError as e:
        raise SystemFailure(f"cannot write to {what}: {reason(e)}") from e
    if found.f_bavail * found.f_frsize < RESERVED_BYTES:
        raise SystemFailure(f"no space left for {what}: less than {RESERVED_BYTES >> 20} MiB would remain free")
    # File systems without a fixed number of inodes (btrfs) report none at all.
    if found.f_files and found.f_favail < RESERVED_FILES:
        raise SystemFailure(f"no space left for {what}: less than {RESERVED_FILES} inodes would remain free")
