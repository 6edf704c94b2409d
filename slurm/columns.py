"""Rows of text whose fields are each followed by a separator, and what the texts of a column mean. Pure.

For the listing of a whole queue, where each microsecond and each copy counts twenty thousand times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

PIECE = 65_536  # bytes that are split at once


class CutError(ValueError):
    """The text does not end with a whole row."""


def split_rows(text: bytes, separator: bytes, width: int) -> Iterator[tuple[bytes, ...]]:
    """Rows by counting fields; the newline that ends a row begins the next one's first field.

    A user's text may hold newlines and look like rows. A piece at a time, for all fields together take
    three times the room of the text; and undecoded, for one character of a far-off script would make a
    text of that size take four bytes each. Raise CutError, at the end.
    """
    fields: list[bytes] = []
    begin = 0
    while begin < len(text):
        end = text.rfind(separator, begin, begin + PIECE)
        if end < 0:  # a field that is longer, or what follows the last one
            end = text.find(separator, begin)
        end = len(text) if end < 0 else end
        fields += text[begin:end].split(separator)
        begin = end + len(separator)
        whole = len(fields) // width * width
        yield from zip(*[iter(fields[:whole])] * width, strict=True)
        del fields[:whole]
    if fields != [b"\n"]:
        raise CutError


class Known(dict[bytes, T]):
    """What the texts of a column mean. Users, states and the like repeat thousands of times: read once."""

    def __init__(self, read: Callable[[str], T]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, raw: bytes) -> T:
        value = self[raw] = self._read(decoded(raw))
        return value


def decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
