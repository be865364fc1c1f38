"""`with` for a generator that yields once: contextlib's contextmanager, without the modules that it brings.

contextlib and what it imports take four milliseconds, a tenth of a start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import contextmanager as scope
else:

    def scope(function):
        """Decorate a generator function: what is before its yield is done on entering, what is after it on leaving."""

        def make(*args, **kwargs):
            return _Scope(function(*args, **kwargs))

        make.__name__, make.__doc__ = function.__name__, function.__doc__
        return make

    class _Scope:
        """One use of it. What is raised inside is raised at the yield, where it may be handled."""

        def __init__(self, steps) -> None:
            self._steps = steps

        def __enter__(self):
            return next(self._steps)

        def __exit__(self, kind, error, traceback) -> bool:
            if error is None:
                if next(self._steps, self) is not self:
                    raise RuntimeError("a scope yields once")
                return False
            try:
                self._steps.throw(error)
            except StopIteration:
                return True
            except BaseException as e:
                if e is not error and not (isinstance(error, StopIteration) and e.__cause__ is error):
                    raise
                error.__traceback__ = traceback  # without our own lines
                return False
            raise RuntimeError("a scope yields once")


__all__ = ["scope"]
