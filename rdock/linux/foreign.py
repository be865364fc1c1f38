"""Functions of C libraries: what ctypes gives, from the part of it that is written in C.

The module ctypes prepares for every platform and type that there is, which takes three milliseconds, a tenth
of a start; `_ctypes`, on which it rests, is there in a tenth of one. What is here has the names and the meaning
that it has in ctypes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import (
        CDLL,
        POINTER,
        Structure,
        addressof,
        byref,
        c_char_p,
        c_int,
        c_int64,
        c_long,
        c_uint,
        c_uint32,
        c_uint64,
        c_ulong,
        c_void_p,
        create_string_buffer,
        get_errno,
        sizeof,
    )

    class Library(CDLL):
        def __init__(self, name: str | None, *, locked: bool = False) -> None: ...

else:
    from _ctypes import (
        FUNCFLAG_CDECL,
        FUNCFLAG_PYTHONAPI,
        FUNCFLAG_USE_ERRNO,
        POINTER,
        CFuncPtr,
        Structure,
        _SimpleCData,
        addressof,
        byref,
        dlopen,
        get_errno,
        sizeof,
    )

    # The letters are those of the struct module, and z for a pointer to text.

    class c_char(_SimpleCData):
        _type_ = "c"

    class c_char_p(_SimpleCData):
        _type_ = "z"

    class c_int(_SimpleCData):
        _type_ = "i"

    class c_uint(_SimpleCData):
        _type_ = "I"

    class c_long(_SimpleCData):
        _type_ = "l"

    class c_ulong(_SimpleCData):
        _type_ = "L"

    class c_int64(_SimpleCData):
        _type_ = "q"

    class c_uint64(_SimpleCData):
        _type_ = "Q"

    class c_void_p(_SimpleCData):
        _type_ = "P"

    c_uint32 = c_uint

    class _Function(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
        _restype_ = c_int

    class _LockedFunction(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO | FUNCFLAG_PYTHONAPI
        _restype_ = c_int

    class Library:
        """The functions of a shared library as attributes; without a name, of those that Python itself is made of.

        `locked` ones keep the interpreter's lock during a call, which those of Python's own, and one that
        forks, need. Raises OSError if there is no such library, AttributeError if it has no such function.
        """

        def __init__(self, name, *, locked=False) -> None:
            resolve_all = 2  # RTLD_NOW
            self._handle = dlopen(name, resolve_all)
            self._kind = _LockedFunction if locked else _Function

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            function = self._kind((name, self))
            setattr(self, name, function)
            return function

    def create_string_buffer(content, size=None):
        """Room for so many bytes, or for these and a zero, or for these in so many."""
        if isinstance(content, int):
            return (c_char * content)()
        buffer = (c_char * (len(content) + 1 if size is None else size))()
        buffer.value = content
        return buffer


__all__ = [
    "POINTER", "Library", "Structure", "addressof", "byref", "c_char_p", "c_int", "c_int64", "c_long", "c_uint",
    "c_uint32", "c_uint64", "c_ulong", "c_void_p", "create_string_buffer", "get_errno", "sizeof",
]  # fmt: skip
