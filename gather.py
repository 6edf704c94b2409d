"""One pass' questions to Slurm, in as few commands as there are questions. Reads through a Source.

Never more than two commands at once. Only the listing is indispensable; what else fails is a fault that
holds back what depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from model import Node, Run, RunKey
from plan import ASKED_A_PASS
from remember import merge_windows
from slurm.accounting import Accounted, whole_runs
from slurm.source import Listing, Source, SourceError

WHOLE_A_PASS = 2_000  # runs known from accounting alone that are read whole

A = TypeVar("A")
B = TypeVar("B")


class Accounting(msgspec.Struct):
    """What accounting told in this pass."""

    pieces: dict[RunKey, Accounted] = {}  # that ended within a window
    whole: dict[RunKey, Accounted] = {}  # of the jobs that were asked for
    startless: dict[int, list[int]] = {}  # job id → the ends of requeued runs whose start accounting has lost
    asked: set[RunKey] = set()  # missing runs that were asked for, and answered
    backlog: int = 0  # what slurmdbd does not know yet
    faults: list[str] = []

    def silences(self, missing: Collection[RunKey]) -> dict[RunKey, int]:
        """Missing runs of which accounting could have told and did not.

        With the end of a record that has lost its start, or 0.
        """
        if not self.is_complete:
            return {}
        silent = (key for key in missing if key in self.asked and key not in self.whole)
        return {key: self._end_after(key) for key in silent}

    def _end_after(self, key: RunKey) -> int:
        ends = (end for end in self.startless.get(key.job_id, []) if end >= key.start_time)
        return min(ends, default=0)

    @property
    def is_complete(self) -> bool:
        return not self.faults and self.backlog == 0


def read_queue(source: Source, with_nodes: bool) -> tuple[Listing, tuple[Node, ...] | None, list[str]]:
    """The listing and, beside it, the nodes (None: not read, with the fault). Raise SourceError."""
    if not with_nodes:
        return source.read_listing(), None, []
    listing, nodes = beside(source.read_listing, lambda: _or_fault(source.read_nodes))
    return listing, nodes[0], nodes[1]


def _or_fault(read: Callable[[], A]) -> tuple[A | None, list[str]]:
    try:
        return read(), []
    except SourceError as error:
        return None, [str(error)]


def read_details(
    source: Source, ids: Collection[int], nodes: tuple[Node, ...] | None
) -> tuple[tuple[Run, ...], tuple[Node, ...] | None, list[str]]:
    """The runs, the nodes that their cores were counted by (read here where they were not yet), faults."""
    if not ids:
        return (), nodes, []
    faults: list[str] = []
    if nodes is None:
        nodes, faults = _or_fault(source.read_nodes)
    by_name = {node.name: node for node in nodes or ()}
    runs, more = _or_fault(lambda: source.read_details(ids, by_name))
    if nodes is None:
        # Up to 23.11 cores cannot be told without the nodes; such a run waits, its ids come once or never.
        runs = tuple(run for run in runs or () if all(a.cores is not None for a in run.allocations))
    return runs or (), nodes, faults + more


def read_accounting(
    source: Source,
    windows: Sequence[tuple[int, int]],
    missing: Sequence[RunKey],
    jobs: Sequence[int],
    look_back: tuple[int, int],
) -> Accounting:
    """Endings within the windows, and of the runs that a target holds and the listing lacks.

    `missing` comes longest unasked first; `jobs` are job ids of the command line, looked for within
    `look_back`, which is also (since, now) for all else that is asked by id.
    """
    found = Accounting()
    if not source.has_accounting:
        return found
    if windows or missing:
        # Before sacct: what slurmctld had handed over by now is in every answer that follows. Without it
        # nothing may be concluded from silence, but what sacct does tell is evidence all the same.
        backlog, faults = _or_fault(source.read_backlog)
        found.backlog = backlog or 0
        found.faults += faults
    try:
        for since, until in merge_windows(windows):
            found.pieces |= {r.key: r for r in source.read_window(since, until) if r.key.start_time}
        _read_missing(source, missing[:ASKED_A_PASS], found, look_back[1])
        if jobs:
            _read_whole(source, jobs, look_back, found)
    except SourceError as error:
        found.faults.append(str(error))
    return found


def _read_missing(source: Source, missing: Sequence[RunKey], found: Accounting, now: int) -> None:
    if not missing:
        return
    since = min(key.start_time for key in missing)
    _read_whole(source, sorted({key.job_id for key in missing}), (since, now), found)
    found.asked |= set(missing)


def _read_whole(source: Source, ids: Sequence[int], span: tuple[int, int], found: Accounting) -> None:
    for record in whole_runs(source.read_accounted(ids, *span)):
        if record.key.start_time:
            found.whole[record.key] = record
        else:
            found.startless.setdefault(record.key.job_id, []).append(record.end_time)


def read_unknown(source: Source, keys: Sequence[RunKey], found: Accounting, now: int) -> None:
    """Whole, before a target is told: what a window shows may be the last piece of a resized run."""
    pieces = [found.pieces[key] for key in keys if key in found.pieces]
    if not pieces:
        return
    since = min(min(p.run.submit_time or p.key.start_time, p.key.start_time) for p in pieces)
    try:
        _read_whole(source, sorted({p.key.job_id for p in pieces}), (since, now), found)
    except SourceError as error:
        found.faults.append(str(error))


def beside(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Both at once. What the first raises is raised."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(second)
        return first(), other.result()
