"""Frozen values: what NamedTuple and dataclass give, at a tenth of their price.

A container is to start in some forty milliseconds, Python's own start included. `typing` and
`dataclasses` take nine and twenty of them to import, and each class made with them another tenth of
one, since they compile a constructor. A Value's is generic; it is checked statically all the same
(PEP 681).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform

    @dataclass_transform(frozen_default=True)
    class _Transformed:
        pass

else:
    _Transformed = object


class Value(_Transformed):
    """Base of values: fields are the annotations of the class, in order, some with defaults.

    Equal if of one class with equal fields; never changed, also not what its fields hold.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(name for name in cls.__dict__.get("__annotations__", ()) if name[0] != "_")

    if not TYPE_CHECKING:

        def __init__(self, *args, **kwargs):
            fields, values = self._fields, self.__dict__
            if len(args) > len(fields):
                raise TypeError(f"{type(self).__name__} has {len(fields)} fields, {len(args)} were given")
            values.update(zip(fields, args))  # noqa: B905 - the rest follows
            for name in kwargs:
                if name not in fields or name in values:
                    raise TypeError(f"{type(self).__name__}: unknown or repeated field: {name}")
            values.update(kwargs)
            if len(values) < len(fields):
                self._complete()

    def _complete(self) -> None:
        for name in self._fields:
            if name not in self.__dict__:
                try:
                    self.__dict__[name] = getattr(type(self), name)
                except AttributeError:
                    raise TypeError(f"{type(self).__name__}: missing field: {name}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

    def _asdict(self) -> dict[str, Any]:
        """Its fields, in order."""
        return {name: self.__dict__[name] for name in self._fields}

    def _replace(self, **changes: Any) -> Self:
        """The same value with some fields different."""
        return type(self)(**{**self.__dict__, **changes})
