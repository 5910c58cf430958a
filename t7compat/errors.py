"""The errors of t7compat.  Every one says where, what was expected and what came."""

from __future__ import annotations


class T7Error(Exception):
    """Base of all errors raised on purpose.

    `place` tells where in a network the error arose.  It is composed on the way up: each container that an
    error passes adds its own step with `within`, so that the leaf which noticed the problem need not know
    where it sits.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.place: tuple[str, ...] = ()

    def within(self, step: str) -> T7Error:
        """The same error, with one more step on the outside of its place."""
        self.place = (step, *self.place)
        return self

    def __str__(self) -> str:
        return ": ".join((*self.place, self.message))


class InputError(T7Error, ValueError):
    """A wrong shape, type, index or option given to a module or a function."""


class T7FormatError(T7Error, ValueError):
    """A .t7 file that cannot be read.

    `offset` is in bytes, `path` says in which object, as in `protos.rnn.modules[3].weight`.
    """

    def __init__(self, message: str, *, offset: int, path: str = "", source: str = "") -> None:
        super().__init__(message)
        self.offset, self.path, self.source = offset, path, source

    def __str__(self) -> str:
        where = f"at byte {self.offset}" + (f", in {self.path}" if self.path else "")
        return f"{self.source + ': ' if self.source else ''}{self.message} ({where})"
