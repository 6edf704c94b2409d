"""`scontrol show job -d`, where cores stand as CPU_IDs: the truth where the JSON has none. Parses only.

Needed for 21.08, whose JSON lets the cores of different sockets fall together. The text is made of what
users wrote, too: a job id that stands there twice, or a node twice, is not believed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from model import Node, Run
from slurm import hostlist
from slurm.gres import parse_indexes

_JOB = re.compile(r"^JobId=([0-9]{1,18})(?: |$)", re.MULTILINE)
_GROUP = re.compile(r"^ {4,}Nodes=(\S+) CPU_IDs=([0-9,-]+) Mem=", re.MULTILINE)

CpuIds = dict[str, tuple[int, ...]]  # host → Slurm's CPU numbers on that node


def parse_cpu_ids(answer: bytes) -> dict[int, CpuIds]:
    """By job id; jobs that cannot be believed are left out."""
    text = answer.decode("utf-8", "replace")
    found: dict[int, CpuIds | None] = {}
    marks = [*_JOB.finditer(text)]
    ends = [*(mark.start() for mark in marks), len(text)][1:]
    for mark, end in zip(marks, ends, strict=True):
        job_id = int(mark[1])
        found[job_id] = None if job_id in found else _groups(text[mark.end() : end])
    return {job_id: ids for job_id, ids in found.items() if ids}


def _groups(block: str) -> CpuIds | None:
    ids: CpuIds = {}
    for group in _GROUP.finditer(block):
        cpus = parse_indexes(group[2])
        try:
            hosts = hostlist.expand(group[1])
        except hostlist.HostlistError:
            return None
        if cpus is None or any(host in ids for host in hosts):
            return None
        ids |= dict.fromkeys(hosts, cpus)
    return ids


def in_table_order(hosts: tuple[str, ...], nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """These hosts as Slurm counts them: in the order of its node table, in which it lists all nodes.

    A job's resources and devices are kept by that order. Once a job has lost a node, Slurm names the rest
    from a list sorted otherwise (`node2,node-b` for the table's `node-b`, `node2`), in its text as well.
    """
    if len(hosts) < 2:
        return hosts
    at = {name: position for position, name in enumerate(nodes)}
    return tuple(sorted(hosts, key=at.__getitem__)) if all(host in at for host in hosts) else hosts


def cores_of(cpus: tuple[int, ...], threads_per_core: int) -> tuple[int, ...]:
    """Slurm's CPU numbers → node-wide core numbers: id // threads per core."""
    return tuple(sorted({cpu // threads_per_core for cpu in cpus}))


def cores_agree(run: Run, nodes: Mapping[str, Node]) -> bool:
    """Whether the cores told of all its nodes fit the job's CPU count.

    24.05.0 and .1 report the wrong sockets, 21.08 the wrong cores on unlike nodes: the count shows it.
    A CPU is a hardware thread, so a core counts for one CPU at least and for its threads at most.
    """
    least = most = 0
    for allocation in run.allocations:
        if allocation.cores is None or allocation.host not in nodes:
            return False
        node = nodes[allocation.host]
        if any(core >= node.sockets * node.cores_per_socket for core in allocation.cores):
            return False
        least += len(allocation.cores)
        most += len(allocation.cores) * node.threads_per_core
    return 0 < least <= run.cpus <= most


def settle_cores(
    runs: tuple[Run, ...], nodes: Mapping[str, Node], read: Callable[[], Mapping[int, CpuIds]]
) -> tuple[Run, ...]:
    """Runs whose cores the JSON does not tell, or tells wrongly, with those of CPU_IDs.

    `read` is asked once and only if needed. What CPU_IDs do not settle either keeps its hosts only.
    """
    doubtful = {run.key for run in runs if not cores_agree(run, nodes)}
    if not doubtful or not nodes:
        return runs
    told = {job_id: _in_place(ids, nodes) for job_id, ids in read().items()}
    return tuple(
        _with_cores(run, told.get(run.key.job_id, {}), nodes) if run.key in doubtful else run for run in runs
    )


def _in_place(ids: CpuIds, nodes: Mapping[str, Node]) -> CpuIds:
    return dict(zip(in_table_order(tuple(ids), nodes), ids.values(), strict=True))


def _with_cores(run: Run, ids: CpuIds, nodes: Mapping[str, Node]) -> Run:
    # All threads of a core stand there; --threads-per-core=1 holds the core and counts fewer CPUs.
    counts = sum(len(ids.get(a.host, ())) for a in run.allocations) == run.cpus
    allocations = tuple(
        msgspec.structs.replace(
            a,
            cores=cores_of(ids[a.host], nodes[a.host].threads_per_core),
            cpus=len(ids[a.host]) if counts else a.cpus,
        )
        if a.host in ids and a.host in nodes
        else msgspec.structs.replace(a, cores=None)
        for a in run.allocations
    )
    settled = msgspec.structs.replace(run, allocations=allocations)
    if cores_agree(settled, nodes):
        return settled
    bare = tuple(msgspec.structs.replace(a, cores=None) for a in run.allocations)
    return msgspec.structs.replace(run, allocations=bare)
