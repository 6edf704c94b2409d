"""Slurm's cores and devices → hardware threads and accelerators as a target numbers them. Pure.

A wrong id shows another user's numbers: what cannot be told exactly is not sent, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal, Protocol

import msgspec

from model import Allocation, Device, HostTopology, Node, Placement, Resource, Run
from slurm import hostlist

Numbering = Literal["interleaved", "blocked"]


class Rule(Protocol):
    """Which hosts have which accelerator ids, by index (settings.AcceleratorRule)."""

    @property
    def kind(self) -> str: ...
    @property
    def pattern(self) -> str: ...
    @property
    def ids(self) -> Mapping[int, str]: ...


class Hardware(msgspec.Struct, frozen=True):
    """All that mapping depends on, for one target."""

    nodes: Mapping[str, Node]
    topology: Mapping[str, HostTopology] | None  # the target's own; None: it has none
    rules: tuple[Rule, ...] = ()
    numbering: Numbering = "interleaved"


def place(run: Run, hardware: Hardware) -> tuple[Placement, tuple[str, ...]]:
    """Where the run lies in the target's numbering, and what could not be told (each once)."""
    problems: list[str] = []
    threads = _threads_of_all(run, hardware, problems) if run.seen_alive else None
    resources = tuple(
        Resource(a.host, threads[a.host] if threads else None, tuple(_accelerators(a, hardware, problems)))
        for a in run.allocations
    )
    sent = sum(len(r.accelerators) for r in resources)
    placement = Placement(
        resources,
        sum(len(r.hwthreads or ()) for r in resources) if threads else run.cpus,
        sent or _held_accelerators(run),
        _smt(run, threads, hardware),
    )
    return placement, tuple(dict.fromkeys(problems))


def _threads_of_all(run: Run, hardware: Hardware, problems: list[str]) -> dict[str, tuple[int, ...]] | None:
    """Hardware threads by host; None unless they are known of every host: the count must equal the ids."""
    found: dict[str, tuple[int, ...]] = {}
    for allocation in run.allocations:
        threads = _threads_of(allocation, hardware)
        if threads is None:
            problems.append(f"{allocation.host}: which hardware threads a job holds cannot be told")
            return None
        found[allocation.host] = threads
    return found


def _threads_of(allocation: Allocation, hardware: Hardware) -> tuple[int, ...] | None:
    if allocation.cores is None:
        return None
    topology = (hardware.topology or {}).get(allocation.host)
    if topology is not None and topology.cores:
        if max(allocation.cores, default=0) >= len(topology.cores):
            return None
        return tuple(sorted(t for core in allocation.cores for t in topology.cores[core]))
    node = hardware.nodes.get(allocation.host)
    if node is None or max(allocation.cores, default=0) >= node.sockets * node.cores_per_socket:
        return None
    return tuple(sorted(_by_rule(allocation.cores, node, hardware.numbering)))


def _by_rule(cores: Sequence[int], node: Node, numbering: Numbering) -> Iterator[int]:
    """Linux' usual numbering counts all cores' first threads before the second ones (interleaved)."""
    threads, all_cores = node.threads_per_core, node.sockets * node.cores_per_socket
    for core in cores:
        for thread in range(threads):
            yield core + thread * all_cores if numbering == "interleaved" else core * threads + thread


def _smt(run: Run, threads: dict[str, tuple[int, ...]] | None, hardware: Hardware) -> int:
    """cc-backend's database takes 0 and 1 only: 1 where a core is held with more than one of its threads."""
    if threads is not None:
        return int(any(len(threads[a.host]) > len(a.cores or ()) for a in run.allocations))
    held = (hardware.nodes.get(a.host) for a in run.allocations)
    return int(any(node is not None and node.threads_per_core > 1 for node in held))


def _held_accelerators(run: Run) -> int:
    counted = sum(d.count for a in run.allocations for d in a.devices if d.name == "gpu")
    return counted or run.gpus


def _accelerators(allocation: Allocation, hardware: Hardware, problems: list[str]) -> Iterator[str]:
    rule = _rule_for(allocation.host, hardware.rules)
    ids = rule.ids if rule is not None else _ids_of_topology(allocation.host, hardware)
    for device in _mapped_devices(allocation, hardware, rule):
        if ids is None or device.indexes is None:
            # Where neither the site nor the target names any accelerator, there is nothing to be missed.
            if hardware.rules or hardware.topology is not None:
                problems.append(f"{allocation.host}: which accelerators a job holds cannot be told")
            continue
        for index in device.indexes:
            if index in ids:
                yield ids[index]
            else:
                problems.append(f"{allocation.host}: no accelerator id for index {index}")


def _mapped_devices(allocation: Allocation, hardware: Hardware, rule: Rule | None) -> tuple[Device, ...]:
    """GPUs; on a node that has none, FPGAs, as cc-slurm-sync has it: both count from 0 in one table."""
    gpus = tuple(d for d in allocation.devices if d.name == "gpu")
    node = hardware.nodes.get(allocation.host)
    if gpus or rule is None or node is None or node.gpus:
        return gpus
    return tuple(d for d in allocation.devices if d.name == "fpga")


def _ids_of_topology(host: str, hardware: Hardware) -> Mapping[int, str] | None:
    topology = (hardware.topology or {}).get(host)
    if topology is None or not topology.accelerators:
        return None
    return dict(enumerate(topology.accelerators))


def _rule_for(host: str, rules: tuple[Rule, ...]) -> Rule | None:
    """A host list or a regular expression that names the host, else the longest prefix."""
    for rule in rules:
        if rule.kind == "hosts" and host in _hosts(rule.pattern):
            return rule
        if rule.kind == "regex" and re.search(rule.pattern, host):
            return rule
    prefixes = [r for r in rules if r.kind == "prefix" and host.startswith(r.pattern)]
    return max(prefixes, key=lambda r: len(r.pattern), default=None)


def by_host(topology: Mapping[str, HostTopology] | None) -> dict[str, HostTopology] | None:
    """A target's topology, which it gives by host list, for each host. Raise HostlistError."""
    if topology is None:
        return None
    return {host: kind for hosts, kind in topology.items() for host in hostlist.expand(hosts)}


@lru_cache(maxsize=256)
def _hosts(pattern: str) -> frozenset[str]:
    return frozenset(hostlist.expand(pattern))
