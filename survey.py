"""The listing sorted by what it says of runs: active, alive, ended, over. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import msgspec

from model import ACTIVE, ENDED, WAITING, Ending, Job, RunKey
from slurm.hostlist import HostlistError, expand
from slurm.wire import has_opt_out

ALIVE = ACTIVE | {"CONFIGURING", "COMPLETING"}
HAS_ENDED = ENDED | {"REQUEUED"}
NOT_SHOWN = ENDED | {"REVOKED"}
HOLDS_NODES = ACTIVE | {"CONFIGURING"}


class Filters(msgspec.Struct, frozen=True):
    """Which jobs are none of ours."""

    node_regex: re.Pattern[str] | None = None  # searched in the compressed node list
    ignore_hosts: frozenset[str] = frozenset()  # a job is left out only if all of its hosts are
    opt_out: str = ""

    def leaves_out(self, node_list: str) -> bool:
        if self.node_regex is not None and not self.node_regex.search(node_list):
            return True
        if not self.ignore_hosts:
            return False
        try:
            return set(expand(node_list)) <= self.ignore_hosts
        except HostlistError:
            return False


class View(msgspec.Struct):
    """The listing, sorted by what it says of runs."""

    cluster: str
    read_at: int
    active: dict[RunKey, Job] = {}  # run, or are suspended
    alive: set[RunKey] = set()  # these, and those that are starting up or completing
    completing: set[RunKey] = set()  # of these
    ended: dict[RunKey, Ending] = {}
    ended_jobs: dict[RunKey, Job] = {}
    waiting: list[Job] = []
    over: dict[int, int] = {}  # job id → its runs before this start are over: it waits again, or ran anew
    unclear: set[RunKey] = set()  # listed with a word that nobody knows: it proves nothing
    opted_out: set[RunKey] = set()
    left_out: int = 0  # by node_regex and ignore_hosts


def survey(
    jobs: Iterable[Job], cluster: str, read_at: int, filters: Filters, opted_out: Collection[str] = ()
) -> View:
    """Sort the listing. A run has nodes and 0 < start ≤ the moment of the listing.

    `opted_out` are runs that once bore the opt-out word: it stays in force when the comment changes.
    """
    view = View(cluster, read_at)
    for job in jobs:
        if job.state in WAITING:
            view.waiting.append(job)
            view.over[job.job_id] = read_at + 1
        if job.node_list and 0 < job.start_time <= read_at and job.state not in WAITING - {"REQUEUED"}:
            _sort_run(view, job, filters, opted_out)
    return view


def _sort_run(view: View, job: Job, filters: Filters, opted_out: Collection[str]) -> None:
    key = job.key
    ours = not filters.leaves_out(job.node_list)
    view.left_out += not ours
    if has_opt_out(job.admin_comment, filters.opt_out) or str(key) in opted_out:
        view.opted_out.add(key)
    if job.state in ACTIVE and ours:
        view.active[key] = job
    if job.state in ALIVE:
        view.alive.add(key)
        if job.state == "COMPLETING" and ours:
            view.completing.add(key)
    elif job.state in HAS_ENDED and job.end_time > 0:
        view.ended[key] = Ending(key, job.state, max(job.end_time, job.start_time), "squeue")
        if ours:
            view.ended_jobs[key] = job
    elif job.state not in HAS_ENDED:
        view.unclear.add(key)
        return
    view.over[job.job_id] = max(view.over.get(job.job_id, 0), job.start_time)


def shown_jobs(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """What a status page shows: all but what has ended."""
    return tuple(job for job in jobs if job.state not in NOT_SHOWN)


def runs_by_host(jobs: Iterable[Job]) -> dict[str, int]:
    """How many runs hold something on a host."""
    found: dict[str, int] = {}
    for job in (job for job in jobs if job.state in HOLDS_NODES):
        try:
            hosts = expand(job.node_list)
        except HostlistError:
            continue
        for host in hosts:
            found[host] = found.get(host, 0) + 1
    return found
