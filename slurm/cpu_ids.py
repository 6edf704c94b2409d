"""`scontrol show job -d`, where a run's cores stand as CPU_IDs: the truth where the JSON has none. Parses only.

Needed for 21.08, whose JSON lets the cores of different sockets fall together. The text is made of what
users wrote, too: a job id that stands there twice, or a node twice, is not believed.
"""

from __future__ import annotations

import re

from slurm import hostlist
from slurm.gres import parse_indexes

_JOB = re.compile(r"^JobId=(\d+)(?: |$)", re.MULTILINE)
_GROUP = re.compile(r"^ {4,}Nodes=(\S+) CPU_IDs=([\d,-]+) Mem=", re.MULTILINE)

CpuIds = dict[str, tuple[int, ...]]  # host → Slurm's CPU numbers on that node


def parse_cpu_ids(answer: bytes) -> dict[int, CpuIds]:
    """By job id; jobs that cannot be believed are left out."""
    text = answer.decode("utf-8", "replace")
    found: dict[int, CpuIds | None] = {}
    marks = [*_JOB.finditer(text)]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
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


def cores_of(cpus: tuple[int, ...], threads_per_core: int) -> tuple[int, ...]:
    """Slurm's CPU numbers → node-wide core numbers: id // threads per core."""
    return tuple(sorted({cpu // threads_per_core for cpu in cpus}))
