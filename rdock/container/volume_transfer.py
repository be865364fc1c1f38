"""A volume's content as a tar archive, out of it and into it: podman's `volume export` and `volume import`.

Owners are the numbers that containers see. What comes in is a stranger's: it is unpacked beside the volume, where
nothing in it leads elsewhere (image/extract.py), and put into the volume when all of it was good.
"""

from __future__ import annotations

import errno
import os
import stat

from rdock.errors import DataLoss, InvalidParameter, NoSuchVolume, SystemFailure, reason
from rdock.image import layer
from rdock.image.packing import pack
from rdock.linux.libc import SYS_renameat2, syscall
from rdock.storage import layers, remembered, staging
from rdock.storage.differences import compare
from rdock.storage.remembered import Owners
from rdock.storage.union import Union
from rdock.volume import local_options, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# linux/fs.h
_RENAME_EXCHANGE = 2
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = (0o755, 0, 0)


def export(name: str, note: Callable[[str], None]) -> Iterator[bytes]:
    """The archive, in pieces; `note` is told what is left out. Raises NoSuchVolume, InvalidParameter, SystemFailure."""
    try:
        # With one id files carry their owners themselves; what cannot is not told of in a volume.
        owners = Owners() if layers.remember_owners() else None
        with Union([_place(name)]) as content:
            yield from pack(compare(content, None), content, is_layer=False, note=note, known=owners)
    except OSError as e:
        raise SystemFailure(f"cannot read volume {name}: {reason(e)}") from e


def _place(name: str) -> str:
    """Where its content is."""
    try:
        options = volumes.lookup(name).options
    except DataLoss:
        options = {}
    if local_options.is_shared(options) and not local_options.is_mounted(name):
        raise InvalidParameter(f"volume {name} is there only while a container that uses it runs")
    return local_options.source(name, options)[0]


def import_(name: str, chunks: Iterable[bytes], note: Callable[[str], None]) -> None:
    """Unpack an archive, compressed or not, into a volume; what is not in it stays.

    Raises NoSuchVolume; DataLoss, InvalidParameter and SystemFailure, after which the volume is as it was, but where
    the file system had no room to put in place what was unpacked.
    """
    place = _place(name)
    with staging.entry() as entry:
        try:
            os.mkdir("content", 0o755, dir_fd=entry.fd)
            content = os.open("content", _DIRECTORY, dir_fd=entry.fd)
            try:
                os.fchmod(content, 0o755)
                found = layer.apply(chunks, content, strict_end=True, whiteouts=False)
                for line in found.notes:
                    note(line)
                if found.foreign:
                    note(
                        f"{found.foreign} files belong to others in the archive, and to you here: this user has one id;"
                        " an export names the others again, but of links and FIFOs"
                    )
                _put_in_place(name, place, content)
            finally:
                os.close(content)
        except OSError as e:
            raise SystemFailure(f"cannot import into volume {name}: {reason(e)}") from e


def _put_in_place(name: str, place: str, content: int) -> None:
    with volumes.locked():
        if name not in volumes.names():
            raise NoSuchVolume(name)
        # A device of `o=bind` may be given by a link; all below is opened without following any.
        target = os.open(place, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        is_empty = not os.listdir(target)
        about = os.fstat(content)
        _merge(content, target)
        if is_empty or _identity(about) != _PLAIN:
            _set_like(content, about, target)
    finally:
        os.close(target)


def _merge(source: int, target: int) -> None:
    """Move everything; directories that are on both sides become one, of all else what comes in counts."""
    for name in os.listdir(source):
        if stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode) and _is_directory(target, name):
            inner = os.open(name, _DIRECTORY, dir_fd=source)
            try:
                there = os.open(name, _DIRECTORY, dir_fd=target)
                about = os.fstat(inner)  # what is moved away changes its time
                try:
                    _merge(inner, there)
                    _set_like(inner, about, there)
                finally:
                    os.close(there)
            finally:
                os.close(inner)
            continue
        try:
            _put(source, target, name)
        except OSError as e:
            if e.errno == errno.EXDEV:
                raise InvalidParameter(
                    "a volume of another file system can be filled by a container only: rdock run -i … tar -x"
                ) from e
            raise


def _put(source: int, target: int, name: str) -> None:
    """Move an entry in. What was in its place goes to where it came from in the same step, and is removed there."""
    here = os.fsencode(name)
    try:
        syscall(SYS_renameat2, source, here, target, here, _RENAME_EXCHANGE)
        return
    except FileNotFoundError:
        pass  # nothing is in its place
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        # A file system that cannot exchange.
        os.rename(name, os.urandom(16).hex(), src_dir_fd=target, dst_dir_fd=source)
    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def _set_like(source: int, about: os.stat_result, target: int) -> None:
    mode, uid, gid = _identity(about)
    os.fchown(target, uid, gid)
    os.fchmod(target, mode)
    remembered.forget(target)
    for name in os.listxattr(source):
        if name.startswith("user."):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))
