"""Slurm's host lists (`n2cn[001-003],n2dgx01`) → names, in Slurm's own order. Pure.

ClusterShell's NodeSet would sort them; `gres_detail` and 21.08's `job_resources` count nodes by their
position in the list, so the order must stay.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

MAX_HOSTS = 200_000  # far above any cluster; an absurd range must not eat the memory
_PARTS = re.compile(r"\[([^\[\]]*)\]")
_SPAN = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class HostlistError(ValueError):
    """Text that is no host list."""


@lru_cache(maxsize=4096)
def expand(hostlist: str) -> tuple[str, ...]:
    """All names: `n[1-2,05]x` → n1x n2x n05x; the last of several brackets counts first.

    Raise HostlistError.
    """
    names: list[str] = []
    for pattern in _split(hostlist):
        names += _expand_one(pattern, MAX_HOSTS - len(names))
    return tuple(names)


def _split(hostlist: str) -> list[str]:
    """At commas outside of brackets."""
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(hostlist):
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            raise HostlistError(f"brackets do not match: {hostlist[:80]}")
        if character == "," and depth == 0:
            parts.append(hostlist[begin:at])
            begin = at + 1
    if depth:
        raise HostlistError(f"brackets do not match: {hostlist[:80]}")
    return [part for part in (*parts, hostlist[begin:]) if part]


def _expand_one(pattern: str, room: int) -> list[str]:
    pieces = _PARTS.split(pattern)  # literal, range, literal, range, …, literal
    ranges = [_expand_ranges(text, room) for text in pieces[1::2]]
    count = 1
    for values in ranges:
        count *= len(values)
    if count > room:
        raise HostlistError(f"more than {MAX_HOSTS} hosts: {pattern[:80]}")
    literals = pieces[::2]
    return [
        literals[0] + "".join(value + literal for value, literal in zip(values, literals[1:], strict=True))
        for values in product(*ranges)
    ]


def _expand_ranges(text: str, room: int) -> list[str]:
    values: list[str] = []
    for part in text.split(","):
        span = _SPAN.fullmatch(part)
        if "-" not in part:
            values.append(part)
        elif span is not None and 0 <= int(span[2]) - int(span[1]) < room:
            values += [str(n).zfill(len(span[1])) for n in range(int(span[1]), int(span[2]) + 1)]
        else:
            raise HostlistError(f"no range: {part[:80]}")
    if "" in values:
        raise HostlistError(f"an empty place in [{text[:80]}]")
    return values
