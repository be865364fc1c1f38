"""The byte code of all our modules in one file: a start reads that instead of looking for a hundred.

To find and read one module's file costs Python a fifth of a millisecond, which made a third of what a start
took. The file lies among those that Python keeps of the byte code (__pycache__), and holds the same. A module
comes from it if its source has still the time (in nanoseconds) and the size that it had; any other Python finds
itself, and at the command's end the file is made anew with it. The packed program does not use this: it has an
importer of its own.

    magic number | length of all, 8 bytes | that of the index, 8 bytes | index | byte code of module after module
"""

from __future__ import annotations

import marshal
import os
import sys

# Those of importlib itself, which are there already: to import it by that name would cost more than it is to save.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, cache_from_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    # is a package, time and size of the source, place and length of the byte code
    Entry = tuple[bool, int, int, int, int]

_HEAD = len(MAGIC_NUMBER) + 16
# These are there before anything can come from the file.
_NEVER = ("rdock", __name__)


class Importer:
    """Finds and loads modules of a package from the file; one of sys.meta_path."""

    def __init__(self, package: str) -> None:
        """`package` is the directory of the package."""
        self.package = package
        self.name = os.path.basename(package)
        self.path = cache_from_source(os.path.join(package, "start.py"))
        self.index: dict[str, Entry] = {}
        self._file = (0, 0)  # which one the index is of: its inode, its time
        self._place = 0

    def read(self) -> None:
        """Learn what there is; no file, or one that another Python made, is the same as an empty one."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            state = os.fstat(fd)
            head = os.pread(fd, _HEAD, 0)
            length = int.from_bytes(head[_HEAD - 8 :], "little")
            if state.st_size > _HEAD and head[: _HEAD - 8] == MAGIC_NUMBER + state.st_size.to_bytes(8, "little"):
                self.index = marshal.loads(os.pread(fd, length, _HEAD))
                self._file, self._place = _identity(state), _HEAD + length
        except (OSError, ValueError, EOFError, TypeError):
            self.index = {}  # damaged: it is made anew at the command's end
        finally:
            os.close(fd)

    def _code(self, name: str) -> bytes | None:
        """The byte code of a module of the index; None if the file is another one by now.

        It is opened each time: a process forked from this one closes what it does not know, and has other files
        at the same numbers then.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            start, length = self.index[name][3:]
            return os.pread(fd, length, self._place + start) if _identity(os.fstat(fd)) == self._file else None
        finally:
            os.close(fd)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        entry = self.index.get(name)
        if entry is None:
            return None
        source = self._source(name, is_package=entry[0])
        if _state(source) != entry[1:3]:
            return None
        content = self._code(name)
        if content is None:
            return None
        try:
            code = marshal.loads(content)
        except (ValueError, EOFError, TypeError):
            del self.index[name]  # damaged: `update` is to write it anew
            return None
        spec = ModuleSpec(name, self, origin=source, loader_state=code, is_package=entry[0])  # type: ignore[arg-type]
        spec.has_location = True  # the module is to have __file__
        if entry[0]:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind."""

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec
        code, spec.loader_state = spec.loader_state, None
        exec(code, module.__dict__)

    def update(self) -> None:
        """Make the file anew if a module was loaded that it lacks, or has of another source. Never fails."""
        if sys.dont_write_bytecode:
            return
        known = {name: module for name, module in sys.modules.items() if name.startswith(self.name + ".")}
        fresh = {}
        for name, module in known.items():
            spec = module.__spec__
            if spec is None or isinstance(spec.loader, Importer) or name in _NEVER or not spec.origin:
                continue
            entry, state = self.index.get(name), _state(spec.origin)
            if state and (entry is None or entry[1:3] != state):
                fresh[name] = (spec, state)
        if not fresh:
            return
        try:
            self._write({name: (*state, _code_of(name, spec)) for name, (spec, state) in fresh.items()})
        except (OSError, ImportError, ValueError, SyntaxError):
            pass  # no place for it, or a source that is being written; Python manages without, as before

    def _write(self, fresh: dict[str, tuple[int, int, bytes]]) -> None:
        """Replace the file by one with the modules that are in it and the fresh ones."""
        # As it is now: others may have added to it.
        there = Importer(self.package)
        there.read()
        codes: dict[str, tuple[bool, int, int, bytes]] = {}
        for name, (is_package, changed, size, *_) in there.index.items():
            if _state(self._source(name, is_package=is_package)) == (changed, size):
                code = there._code(name)
                if code is not None:
                    codes[name] = (is_package, changed, size, code)
        for name, (changed, size, code) in fresh.items():
            codes[name] = (hasattr(sys.modules[name], "__path__"), changed, size, code)
        index: dict[str, Entry] = {}
        start = 0
        for name, (is_package, changed, size, code) in codes.items():
            index[name] = (is_package, changed, size, start, len(code))
            start += len(code)
        head = marshal.dumps(index)
        lengths = (_HEAD + len(head) + start, len(head))
        content = [MAGIC_NUMBER, *(length.to_bytes(8, "little") for length in lengths), head]
        content += [code for *_, code in codes.values()]
        temporary = f"{self.path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            with open(fd, "wb") as file:
                file.write(b"".join(content))
                file.flush()
                os.fsync(fd)  # half a file, as a power cut may leave, would not be noticed
            os.rename(temporary, self.path)
        except OSError:
            os.unlink(temporary)
            raise

    def _source(self, name: str, *, is_package: bool) -> str:
        path = self.package + name[len(self.name) :].replace(".", "/")
        return f"{path}/__init__.py" if is_package else f"{path}.py"


def _state(source: str) -> tuple[int, int] | None:
    """Time of change and size of a source; None if it is not there."""
    try:
        found = os.stat(source)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _identity(file: os.stat_result) -> tuple[int, int]:
    return file.st_ino, file.st_mtime_ns


def _code_of(name: str, spec: Any) -> bytes:
    """By Python's own loader: from its file, if that is of the source as it is now."""
    return marshal.dumps(spec.loader.get_code(name))


def install() -> Importer:
    """Have our modules come from the file from now on."""
    importer = Importer(os.path.dirname(os.path.abspath(__file__)))
    importer.read()
    sys.meta_path.insert(0, importer)
    return importer
