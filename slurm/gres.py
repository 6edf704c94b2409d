"""Slurm's device texts (`gpu:a100:2(IDX:0,2),shard:3(IDX:1)`) → devices of one node. Pure.

The grammar, as gres.c writes it: `name[:type][:count][suffix][:no_consume]` followed by any of
`(IDX:0,2-3)`, `(IDX:)`, `(IDX:N/A)`, `(CNT:2)`, `(S:0-1)` and, for shards from 23.11 on, `(3/4,0/4)`:
for each card in turn the shards held of those that it has.
"""

from __future__ import annotations

import re

import msgspec

from model import Device, GpuCount
from slurm.wire import number

MAX_INDEX = 4096  # MAX_GRES_BITMAP is 1,024; an absurd range must not eat the memory
_NOTE = re.compile(r"\(([^()]*)\)")
_COUNT = re.compile(r"[0-9]+[KMGTP]?")
_SPAN = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_SHARDS = re.compile(r"([0-9]{1,9}|-)/[0-9]{1,9}")  # `-`: the card is taken whole (26.05)


class Gres(msgspec.Struct, frozen=True):
    name: str
    type: str
    count: int
    indexes: tuple[int, ...] | None  # None: not told


def parse_gres(text: str) -> tuple[Gres, ...]:
    """All entries; what makes no sense as an entry is left out."""
    return tuple(entry for part in _split(text) if (entry := _parse_entry(part)) is not None)


def _split(text: str) -> list[str]:
    """At commas outside of brackets: `gpu:2(IDX:0,2-3),fpga:1` is two."""
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            parts.append(text[begin:at])
            begin, depth = at + 1, 0
    return [part.strip() for part in (*parts, text[begin:]) if part.strip()]


def _parse_entry(part: str) -> Gres | None:
    notes = _NOTE.findall(part)
    plain = re.split(r"[()]", _NOTE.sub("", part))[0]  # half a note tells nothing
    fields = [f for f in plain.removeprefix("gres/").split(":") if f and f != "no_consume"]
    if not fields:
        return None
    name, *rest = fields
    count = number(rest.pop()) if rest and _COUNT.fullmatch(rest[-1]) else None
    indexes, counted = _read_notes(notes)
    if count is None:
        count = counted if counted is not None else 1
    return Gres(name, ":".join(rest), count, indexes)


def _read_notes(notes: list[str]) -> tuple[tuple[int, ...] | None, int | None]:
    indexes: tuple[int, ...] | None = None
    counted: int | None = None
    for note in notes:
        if note.startswith("IDX:"):
            indexes = parse_indexes(note[4:])
        elif note.startswith("CNT:"):
            counted = number(note[4:])
        elif "/" in note:
            indexes = _cards_in_use(note)
    return indexes, counted


def parse_indexes(text: str) -> tuple[int, ...] | None:
    """`0,2-3` → 0, 2, 3; "" → none of them; anything else → None, not told."""
    found: list[int] = []
    for part in text.split(",") if text else []:
        span = _SPAN.fullmatch(part)
        if span is None or not int(span[1]) <= int(span[2] or span[1]) < MAX_INDEX:
            return None
        found += range(int(span[1]), int(span[2] or span[1]) + 1)
    return tuple(dict.fromkeys(found))


def _cards_in_use(note: str) -> tuple[int, ...] | None:
    """`3/4,0/4` → card 0. Each entry is a card, its first number the shards held of it."""
    held = [_SHARDS.fullmatch(part) for part in note.split(",")]
    if not all(held):
        return None
    return tuple(card for card, shards in enumerate(held) if shards is not None and shards[1].strip("0-"))


def devices(text: str) -> tuple[Device, ...]:
    """What a job holds on a node. Shards stand for the cards that they belong to."""
    entries = parse_gres(text)
    found = [Device(e.name, e.type, e.count, e.indexes) for e in entries if e.name != "shard" and e.count]
    taken = {i for d in found if d.name == "gpu" for i in d.indexes or ()}
    for entry in entries:
        if entry.name == "shard" and entry.count:
            found += _shard_cards(entry, taken)
            taken |= set(entry.indexes or ())
    return tuple(found)


def _shard_cards(entry: Gres, taken: set[int]) -> list[Device]:
    if entry.indexes is None:
        return [Device("gpu", entry.type, 1, None)]
    cards = tuple(i for i in entry.indexes if i not in taken)
    return [Device("gpu", entry.type, len(cards), cards)] if cards else []


def gpu_counts(has: str, used: str) -> tuple[GpuCount, ...]:
    """A node's cards by type: how many there are, how many are allocated, through shards too."""
    total: dict[str, int] = {}
    for entry in parse_gres(has):
        if entry.name == "gpu":
            total[entry.type] = total.get(entry.type, 0) + entry.count
    allocated: dict[str, int] = dict.fromkeys(total, 0)
    for device in devices(used):
        if device.name == "gpu":
            _count_used(allocated, device, total)
    return tuple(GpuCount(t, n, min(n, allocated[t])) for t, n in total.items())


def _count_used(allocated: dict[str, int], device: Device, total: dict[str, int]) -> None:
    kind = device.type if device.type in total else next(iter(total), None)
    if kind is not None:
        allocated[kind] += device.count
