"""Nodes, from `scontrol show nodes --json` (23.02 on) or `sinfo --json` (up to 22.05). Parses only."""

from __future__ import annotations

from typing import Any

import msgspec

from model import Node
from slurm import document, wire
from slurm.gres import gpu_counts


class _JsonNode(msgspec.Struct):
    """The fields that make a Node; all else is skipped while decoding."""

    name: Any = None
    state: Any = None
    state_flags: Any = None
    partitions: Any = None
    cpus: Any = None
    alloc_cpus: Any = None
    sockets: Any = None
    cores: Any = None
    threads: Any = None
    real_memory: Any = None
    alloc_memory: Any = None
    cpu_load: Any = None
    gres: Any = None
    gres_used: Any = None
    reason: Any = None
    owner: Any = None


def parse_nodes(answer: bytes, command: str) -> tuple[Node, ...]:
    """All nodes. Raise AnswerError unless the answer is whole and lists nodes one by one.

    From 23.02 on `sinfo --json` has groups of nodes instead, without a list of `nodes`.
    """
    records = document.records(document.decode(answer, command).nodes, _JsonNode, command)
    nodes: list[Node] = []
    for record in records:
        nodes += document.unless_malformed(command, record.name, _node_of, record)
    return tuple(nodes)


def _node_of(record: _JsonNode) -> Node:
    name = wire.text(record.name)
    if not name:
        raise wire.ShapeError("a node without name")
    return Node(
        name=name,
        states=wire.words(record.state) + wire.words(record.state_flags),
        partitions=_partitions(record.partitions),
        cpus=wire.number(record.cpus) or 0,
        alloc_cpus=wire.number(record.alloc_cpus) or 0,
        sockets=wire.number(record.sockets) or 1,
        cores_per_socket=wire.number(record.cores) or 1,
        threads_per_core=wire.number(record.threads) or 1,
        memory_mb=wire.number(record.real_memory) or 0,
        alloc_memory_mb=wire.number(record.alloc_memory) or 0,
        load=_load(record.cpu_load),
        gpus=gpu_counts(wire.text(record.gres), wire.text(record.gres_used)),
        reason=wire.name(record.reason),
        owner=wire.name(record.owner),
    )


def _partitions(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value or ()
    return tuple(name for name in map(wire.text, names) if name)


def _load(value: Any) -> float | None:
    """`cpu_load` is load × 100; NO_VAL where slurmd does not answer."""
    number = wire.number(value)
    return None if number is None else number / 100
