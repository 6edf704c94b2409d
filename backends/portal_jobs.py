"""The jobs in a status portal's words: counts, the longest ones, an entry for each.

Pure. Which of them are GPU jobs is portal's to tell, which also puts these values beside those of the nodes.
"""

from __future__ import annotations

import heapq
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec

from model import WAITING, Job

Fields = dict[str, str | bytes]
Kind = Literal["running", "pending", "halted"]

# The states that are shown. CONFIGURING holds its nodes while they boot; SIGNALING and RESIZING are RUNNING.
# COMPLETING and STAGE_OUT are not here: Slurm counts none of their CPUs and cards as allocated any more (seen
# alike from 21.08 to 25.11), so as running jobs they would not fit the sums of the nodes beside them.
KINDS: dict[str, Kind] = {
    **dict.fromkeys(WAITING, "pending"),
    **dict.fromkeys(("RUNNING", "CONFIGURING", "SIGNALING", "RESIZING"), "running"),
    **dict.fromkeys(("SUSPENDED", "STOPPED"), "halted"),
}
COUNTED: tuple[Kind, ...] = ("running", "pending")
TOP = 5
SEPARATOR = b"||||"  # of the hash layout
_ESCAPED = rb"\u007c" * 4  # the same four characters inside of a JSON or Python text

_TASKS = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10})(?::([0-9]{1,10}))?)?")
_dumps = msgspec.json.Encoder().encode


def encode(value: Any) -> bytes:
    """JSON in UTF-8. Half a surrogate pair, which UTF-8 cannot hold, becomes `?`."""
    try:
        return _dumps(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False).encode(errors="replace")


class _Side:
    """The CPU jobs or the GPU jobs."""

    def __init__(self) -> None:
        self.jobs: Counter[Kind] = Counter()
        self.users: dict[Kind, set[str]] = {kind: set() for kind in (*COUNTED, "halted")}


def job_fields(jobs: Iterable[Job], is_gpu_job: Callable[[Job], bool]) -> Fields:
    """Numbers of jobs and users: of all, of CPU jobs, of GPU jobs."""
    cpu, gpu = _count(jobs, is_gpu_job)
    fields: Fields = {}
    for prefix, sides in (("", (cpu, gpu)), ("cpu_", (cpu,)), ("gpu_", (gpu,))):
        for kind in COUNTED:
            fields[f"{prefix}{kind}_jobs"] = str(sum(side.jobs[kind] for side in sides))
            fields[f"{prefix}{kind}_users"] = _distinct(side.users[kind] for side in sides)
        fields[f"{prefix}users"] = _distinct(users for side in sides for users in side.users.values())
    return fields


def _count(jobs: Iterable[Job], is_gpu_job: Callable[[Job], bool]) -> tuple[_Side, _Side]:
    cpu, gpu = _Side(), _Side()
    for job in jobs:
        kind = KINDS.get(job.state)
        if kind is not None:
            side = gpu if is_gpu_job(job) else cpu
            side.users[kind].add(job.user)
            side.jobs[kind] += count_tasks(job.array_tasks) if kind == "pending" else 1
    return cpu, gpu


def _distinct(users: Iterable[set[str]]) -> str:
    return str(len(set().union(*users)))


def count_tasks(text: str) -> int:
    """How many tasks `1,3,5-9`, `0-30:2` or `3-7%3` names; 1 for a single job and where it makes no sense."""
    tasks = text.partition("%")[0].strip("[]")
    if not tasks:
        return 1
    counts = [_count_range(part) for part in tasks.split(",")]
    return sum(counts) if all(counts) else 1


def _count_range(text: str) -> int:
    """0: makes no sense."""
    match = _TASKS.fullmatch(text)
    if not match:
        return 0
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    return (last - first) // step + 1 if step and last >= first else 0


def top_fields(jobs: Iterable[Job], now: int) -> Fields:
    """The longest running and the longest waiting jobs; the second field is spelled as portals read it."""
    ages: dict[Kind, list[tuple[int, str]]] = {kind: [] for kind in (*COUNTED, "halted")}
    for job in jobs:
        kind = KINDS.get(job.state)
        if kind is not None:
            ages[kind].append((_age(job, kind, now), job.name))
    pending = _top(ages["pending"])
    return {"running_top5": _top(ages["running"]), "pengding_top5": pending, "pending_top5": pending}


def _top(ages: list[tuple[int, str]]) -> bytes:
    longest = heapq.nlargest(TOP, ages, key=lambda pair: pair[0])
    return encode([{name: in_words(seconds)} for seconds, name in longest])


def _age(job: Job, kind: Kind, now: int) -> int:
    """Seconds that it runs, or waits since it was submitted."""
    since = job.submit_time if kind == "pending" else job.start_time
    return max(0, now - since) if since else 0


def in_words(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} seconds"
    return f"{seconds / 60:.2f} minutes" if seconds < 3600 else f"{seconds / 3600:.2f} hours"


def clock(seconds: int) -> str:
    """As squeue writes it: `1:05`, `1:02:03`, `1-02:03:04`."""
    minutes, second = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}:{second:02}"
    hours, minute = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}:{minute:02}:{second:02}"
    return f"{hours // 24}-{hours % 24:02}:{minute:02}:{second:02}"


class JobEntry(msgspec.Struct, gc=False):
    name: str
    account: str
    user: str
    partition: str
    qos: str
    nodes: int
    cpus: int
    state: str
    time_used: str
    time_used_seconds: int
    info: str
    job_id: int
    array_job_id: int  # 0: no array
    array_task_id: int | str  # waiting tasks as Slurm writes them; "": no array
    gpus: int
    submit_time: int
    start_time: int


class OldJobEntry(JobEntry, gc=False):
    """What readers of the hash layout look for besides."""

    job_name: str
    time_submit: str
    timestamp_submit: int
    time_wait: int


def job_entries(jobs: Iterable[Job], now: int) -> Iterator[bytes]:
    for job in jobs:
        kind = KINDS.get(job.state)
        if kind is not None:
            yield encode(JobEntry(*_entry(job, kind, now)))


def old_job_entries(jobs: Iterable[Job], now: int) -> Iterator[bytes]:
    """For the hash layout: no entry holds its separator."""
    for job in jobs:
        kind = KINDS.get(job.state)
        if kind is not None:
            submitted = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(job.submit_time))
            wait = _age(job, kind, now) if kind == "pending" else 0
            values = (*_entry(job, kind, now), job.name, submitted, job.submit_time, wait)
            yield encode(OldJobEntry(*values)).replace(SEPARATOR, _ESCAPED)


def _entry(job: Job, kind: Kind, now: int) -> tuple[Any, ...]:
    """The values of a JobEntry, in its order."""
    seconds = _age(job, kind, now)
    return (
        job.name,
        job.account,
        job.user,
        job.partition,
        job.qos,
        job.num_nodes,
        job.cpus,
        job.state,
        clock(seconds),
        seconds,
        job.reason.strip("()") if kind == "pending" else job.node_list,
        job.job_id,
        job.array_job_id or 0,
        job.array_tasks if job.array_task_id is None else job.array_task_id,
        job.gpus,
        job.submit_time,
        job.start_time,
    )
