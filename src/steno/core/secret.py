"""A secret that does not show itself.

``repr``, ``str``, f-strings, pickling and msgspec encoding never give the value away; only
``reveal`` does, at the one place where it is put on the wire. One that was read from a file knows
which, for whoever must read it again after a rotation.
"""

from __future__ import annotations

import hmac
from typing import NoReturn, final

HIDDEN = "[hidden]"


@final
class Secret:
    """Holds a password, key or token; falsy when it is empty."""

    __slots__ = ("__value", "file")

    def __init__(self, value: str, file: str = "") -> None:
        self.__value = value
        self.file = file

    def reveal(self) -> str:
        """Return the value, to be handed to a peer and to nothing else."""
        return self.__value

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __repr__(self) -> str:
        return HIDDEN if self.__value else "[not set]"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        # Constant time, so that comparing secrets never becomes an oracle.
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied into another process")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self
