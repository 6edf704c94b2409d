"""What a status portal's keys say: from a snapshot to the fields of hashes and the entries of lists.

Pure; where keys lie and how they are written is left to redis_keys. Words, sums and formats are those that
portals already read; every entry parses as JSON and as a Python literal alike, so there is no null in it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from backends.portal_jobs import (
    SEPARATOR,
    Fields,
    encode,
    job_entries,
    job_fields,
    old_job_entries,
    top_fields,
)
from model import Job, Node, Snapshot

Layout = Literal["list", "hash"]

BROKEN = frozenset({"DOWN", "FAIL", "ERROR", "UNKNOWN", "FUTURE", "INVALID", "INVALID_REG", "INVAL"})
# slurmctld sets NOT_RESPONDING while a node boots, too; its own texts then show the power state instead.
POWER_SAVING = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWERING_UP"})


class Group(msgspec.Struct, frozen=True):
    """A node type: a named group of partitions."""

    name: str
    partitions: frozenset[str]
    counts_cards: bool  # else CPUs


class Groups:
    """Which node type a node or a job belongs to; where several fit, the first that is configured."""

    def __init__(
        self, node_types: Mapping[str, Sequence[str]] | None = None, gpu_types: Collection[str] | None = None
    ) -> None:
        self._by_gpus = node_types is None
        types = {"CPU": (), "GPU": ()} if node_types is None else node_types
        cards = [n for n in types if n.upper().startswith("GPU")] if gpu_types is None else gpu_types
        self.all = tuple(Group(n, frozenset(partitions), n in cards) for n, partitions in types.items())
        self._of_job: dict[str, Group | None] = {}  # by the job's text of partitions

    def of_node(self, node: Node) -> Group | None:
        if self._by_gpus:
            return self.all[any(gpu.total for gpu in node.gpus)]
        return self._first(node.partitions)

    def is_gpu_job(self, job: Job) -> bool:
        """A job of no configured group goes by its own GPUs, so that CPU and GPU jobs are all jobs."""
        if self._by_gpus:
            return job.gpus > 0
        if job.partition not in self._of_job:
            self._of_job[job.partition] = self._first(job.partition.split(","))
        group = self._of_job[job.partition]
        return job.gpus > 0 if group is None else group.counts_cards

    def _first(self, partitions: Iterable[str]) -> Group | None:
        return next((group for group in self.all if not group.partitions.isdisjoint(partitions)), None)


class Portal(msgspec.Struct, frozen=True):
    """The values of one pass by the keys' names behind the cluster's; other keys stay as they are."""

    hashes: dict[str, Fields]  # replaced as a whole; one without fields is removed
    patches: dict[str, Fields]  # these fields are set, the hash's others stay
    lists: dict[str, Iterator[bytes]]  # replaced as a whole; an empty one is removed


def render_portal(snapshot: Snapshot, groups: Groups, layout: Layout = "list") -> Portal:
    portal, brief = Portal({}, {}, {}), Fields()
    if snapshot.nodes is not None:
        brief |= _add_nodes(portal, snapshot.nodes, groups, layout)
    if snapshot.jobs is not None:
        brief |= _add_jobs(portal, snapshot.jobs, groups, layout, snapshot.now)
    if snapshot.pue is not None:
        pue, power = snapshot.pue
        portal.hashes["cluster_pue"] = {"pue": str(round(pue, 2)), "power": str(round(power, 2))}
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.now))
    for name, fields in portal.hashes.items():
        if name != "nodes":  # its fields are nodes
            fields["update_time"] = stamp
    if brief:
        whole = snapshot.nodes is not None and snapshot.jobs is not None
        (portal.hashes if whole else portal.patches)["cluster_brief"] = brief
    return portal


def _add_jobs(portal: Portal, jobs: Sequence[Job], groups: Groups, layout: Layout, now: int) -> Fields:
    """Return what the brief shows of them."""
    fields = job_fields(jobs, groups.is_gpu_job)
    portal.hashes["cluster_job"] = fields | top_fields(jobs, now)
    if layout == "list":
        portal.lists["jobs"] = job_entries(jobs, now)
    else:
        names = ("running_jobs", "pending_jobs", "running_users", "pending_users")
        portal.hashes["jobs"] = {name: fields[name] for name in names}
        portal.hashes["jobs"]["jobs"] = SEPARATOR.join(old_job_entries(jobs, now))
    return {"job_running": fields["running_jobs"], "job_pending": fields["pending_jobs"]}


class Amount(NamedTuple):
    """CPUs or cards."""

    total: int
    allocated: int
    error: int

    @property
    def free(self) -> int:
        return self.total - self.error - self.allocated


class NodeUse(msgspec.Struct, frozen=True):
    """A node, its node type and how it is used."""

    node: Node
    group: Group | None
    cpus: Amount
    cards: Amount
    state: str  # Error, Busy, Running, Available


def use_of(node: Node, groups: Groups) -> NodeUse:
    group, broken = groups.of_node(node), is_broken(node)
    # Slurm counts more as allocated than there is where a node has shrunk under its jobs.
    cards = sum(gpu.total for gpu in node.gpus), sum(min(gpu.allocated, gpu.total) for gpu in node.gpus)
    cpus = _amount(node.cpus, min(node.alloc_cpus, node.cpus), broken)
    use = NodeUse(node, group, cpus, _amount(*cards, broken), "Error")
    return use if broken else msgspec.structs.replace(use, state=_usage_state(use))


def is_broken(node: Node) -> bool:
    """It is down, silent, or drained with nothing running on it any more."""
    if not BROKEN.isdisjoint(node.states):
        return True
    if "NOT_RESPONDING" in node.states and POWER_SAVING.isdisjoint(node.states):
        return True
    return "DRAIN" in node.states and not (node.alloc_cpus or any(gpu.allocated for gpu in node.gpus))


def _amount(total: int, allocated: int, broken: bool) -> Amount:
    return Amount(total, 0, total) if broken else Amount(total, allocated, 0)


def _usage_state(use: NodeUse) -> str:
    """By cards on a node of a GPU group, but for one that has none; else by CPUs."""
    by_cards = use.group is not None and use.group.counts_cards and use.cards.total
    amount = use.cards if by_cards else use.cpus
    if not amount.allocated:
        return "Available"
    return "Running" if amount.free else "Busy"


def _add_nodes(portal: Portal, nodes: Sequence[Node], groups: Groups, layout: Layout) -> Fields:
    """Return what the brief shows of them."""
    uses = [use_of(node, groups) for node in nodes]
    fields = _sum_fields("all", uses, counts_cards=False)
    for group in groups.all:
        own = [use for use in uses if use.group is group]
        fields |= _sum_fields(group.name.lower(), own, group.counts_cards)
    portal.hashes["cluster_node"] = fields
    if layout == "list":
        portal.lists["nodes"] = map(_encode_node, uses)
    else:
        portal.hashes["nodes"] = {use.node.name: _encode_node(use) for use in uses}
    return _brief_fields(uses)


def _sum_fields(prefix: str, uses: Sequence[NodeUse], counts_cards: bool) -> Fields:
    unit = f"{prefix}_card" if counts_cards else f"{prefix}_cpu"
    amount = _sum(use.cards if counts_cards else use.cpus for use in uses)
    states = Counter(use.state for use in uses)
    running = len(uses) - states["Error"] - states["Available"]
    return {
        f"{unit}_alloc": str(amount.allocated),
        f"{unit}_error": str(amount.error),
        f"{unit}_free": str(amount.free),
        f"{unit}_tot": str(amount.total),
        f"{prefix}_node_tot": str(len(uses)),
        f"{prefix}_node_error": str(states["Error"]),
        f"{prefix}_node_available": str(states["Available"]),
        f"{prefix}_node_running": str(running),
    }


def _sum(amounts: Iterable[Amount]) -> Amount:
    total = allocated = error = 0
    for amount in amounts:
        total, allocated, error = total + amount[0], allocated + amount[1], error + amount[2]
    return Amount(total, allocated, error)


def _brief_fields(uses: Sequence[NodeUse]) -> Fields:
    states, cpus = Counter(use.state for use in uses), _sum(use.cpus for use in uses)
    nodes = (states["Running"] + states["Busy"], states["Available"], states["Error"])
    cores = (cpus.allocated, cpus.free, cpus.error)
    fields: Fields = {}
    for name, counts in (("node", nodes), ("core", cores)):
        for word, share in zip(("running", "available", "error"), percentages(counts), strict=True):
            fields[f"{name}_{word}"] = str(share)
    return fields


def percentages(counts: tuple[int, int, int]) -> list[int]:
    """Whole percentages that sum up to 100, by the largest remainder; of nothing, the second is all."""
    counts = counts if any(counts) else (0, 1, 0)
    total = sum(counts)
    shares = [100 * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda i: 100 * counts[i] % total, reverse=True)
    for index in by_remainder[: 100 - sum(shares)]:
        shares[index] += 1
    return shares


class NodeEntry(msgspec.Struct, gc=False):
    name: str
    type: str  # "": in no group
    state: str
    res_tot: int
    res_alloc: int
    cpu_avg_load: float
    mem_tot: int
    mem_alloc: int
    GPU: int
    res_usage: str
    res_usage_sort: int
    slurm_state: str
    reason: str
    partitions: tuple[str, ...]
    gpu_types: dict[str, dict[str, int]]


def _encode_node(use: NodeUse) -> bytes:
    node, by_cards = use.node, use.group is not None and use.group.counts_cards
    amount = use.cards if by_cards else use.cpus
    percent = round(100 * amount.allocated / amount.total) if amount.total else 0
    return encode(
        NodeEntry(
            name=node.name,
            type=use.group.name if use.group else "",
            state=use.state,
            res_tot=amount.total,
            res_alloc=amount.allocated,
            cpu_avg_load=node.load or 0.0,
            mem_tot=node.memory_mb,
            mem_alloc=node.alloc_memory_mb,
            GPU=int(by_cards),
            res_usage=f"{percent}%",
            res_usage_sort=percent,
            slurm_state="+".join(node.states),
            reason=node.reason,
            partitions=node.partitions,
            gpu_types=_gpu_types(use),
        )
    )


def _gpu_types(use: NodeUse) -> dict[str, dict[str, int]]:
    """By type; untyped ones as `gpu`."""
    types: dict[str, dict[str, int]] = {}
    for gpu in use.node.gpus:
        kind = types.setdefault(gpu.type or "gpu", {"tot": 0, "alloc": 0})
        kind["tot"] += gpu.total
        kind["alloc"] += 0 if use.state == "Error" else min(gpu.allocated, gpu.total)
    return types
