"""A simulated cluster in memory that answers as slurm/source.py asks: histories play fast, in made-up time.

It keeps what squeue and sacct would print, and nothing of what follows from it. Starts, ends and requeues
happen at its clock, which the test moves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from model import ACTIVE, Allocation, Job, Node, Run, RunKey
from slurm import hostlist
from slurm.accounting import Accounted
from slurm.source import Listing, SourceError

NOW = 1_700_000_000
CLUSTER = "noctua"
CPUS_A_NODE = 4


class Entry(msgspec.Struct):
    """A job of the queue as slurmctld holds it."""

    job_id: int
    submit_time: int
    state: str = "PENDING"
    start_time: int = 0
    end_time: int = 0
    node_list: str = ""
    cpus: int = 0
    gpus: int = 0
    array_job_id: int | None = None
    array_task_id: int | None = None
    array_tasks: str = ""
    het_job_id: int | None = None
    het_offset: int | None = None
    admin_comment: str = ""
    name: str = "job"
    is_listed: bool = True
    piece_start: int = 0  # of accounting's open record: a resize begins a new one


class FakeSlurm:
    """A Source, and the verbs that make history. `accounting`: on, lags (nothing new shows), fails, off."""

    def __init__(self, accounting: str = "on") -> None:
        self.clock = NOW
        self.accounting = accounting
        self.has_accounting = accounting != "off"
        self.entries: dict[int, Entry] = {}
        self.records: list[Accounted] = []  # all that ended
        self.shown = 0  # so many of the records does slurmdbd know
        self.asked: list[str] = []
        self.broken: set[str] = set()  # listing, details, nodes, window, jobs, backlog
        self.extra: tuple[Job, ...] = ()  # entries of the listing that are no history of ours
        self._last_id = 4710

    # What happens

    def submit(self, job_id: int | None = None, **fields: Any) -> int:
        self._last_id = job_id or self._last_id + 1
        entry = msgspec.convert({"job_id": self._last_id, "submit_time": self.clock} | fields, Entry)
        self.entries[self._last_id] = entry
        return self._last_id

    def start(self, job_id: int, nodes: str = "n2cn001") -> RunKey:
        entry = self.entries[job_id]
        entry.state, entry.start_time, entry.end_time = "RUNNING", self.clock, 0
        entry.piece_start = self.clock
        self._place(entry, nodes)
        return self.key(job_id)

    def run(self, nodes: str = "n2cn001", **fields: Any) -> RunKey:
        """Submitted and started at once."""
        return self.start(self.submit(**fields), nodes)

    def turn(self, job_id: int, state: str) -> None:
        """Suspended, configuring, completing, …: another word, the same run."""
        self.entries[job_id].state = state

    def finish(self, job_id: int, state: str = "COMPLETED", completing: bool = False) -> None:
        """With `completing` the epilog still runs: the listing says COMPLETING, accounting has the end."""
        entry = self.entries[job_id]
        self._record(entry, state)
        entry.state, entry.end_time = ("COMPLETING" if completing else state), self.clock

    def requeue(self, job_id: int) -> None:
        entry = self.entries[job_id]
        self._record(entry, "REQUEUED")
        entry.state, entry.start_time, entry.end_time, entry.node_list = "PENDING", 0, 0, ""

    def resize(self, job_id: int, nodes: str) -> None:
        entry = self.entries[job_id]
        self._record(entry, "RESIZING")
        entry.piece_start = self.clock
        self._place(entry, nodes)

    def purge(self, job_id: int) -> None:
        """MinJobAge is over: slurmctld forgets the job."""
        self.entries[job_id].is_listed = False

    def flash(self, state: str = "COMPLETED", **fields: Any) -> RunKey:
        """A run that nobody sees: over and purged at once."""
        run = self.run(**fields)
        self.finish(run.job_id, state)
        self.purge(run.job_id)
        return run

    def vanish(self, job_id: int) -> None:
        """slurmctld lost its state, and accounting never hears of an end."""
        self.entries[job_id].is_listed = False

    def forget(self, job_id: int) -> None:
        """Accounting has lost what it knew of the job."""
        self.records = [r for r in self.records if r.key.job_id != job_id]
        self.shown = len(self.records)

    def pass_by(self, seconds: int) -> None:
        self.clock += seconds

    def key(self, job_id: int) -> RunKey:
        return RunKey(CLUSTER, job_id, self.entries[job_id].start_time)

    # What is asked

    def now(self) -> int:
        return self.clock

    def read_listing(self) -> Listing:
        self._ask("listing")
        jobs = (_job_of(entry) for entry in self.entries.values() if entry.is_listed)
        return Listing((*jobs, *self.extra), self.clock)

    def read_details(self, ids: Collection[int], nodes: Mapping[str, Node]) -> tuple[Run, ...]:
        self._ask("details", *sorted(ids))
        found = (self.entries[job_id] for job_id in sorted(ids) if job_id in self.entries)
        return tuple(_run_of(e) for e in found if e.is_listed and e.state in ACTIVE)

    def read_window(self, since: int, until: int) -> tuple[Accounted, ...]:
        self._ask("window", since, until)
        return tuple(r for r in self._visible() if r.run.state != "RESIZING" and since <= r.end_time <= until)

    def read_accounted(self, ids: Sequence[int], since: int, until: int) -> tuple[Accounted, ...]:
        """As `sacct -j`: an array's or leader's id stands for all of its tasks or components."""
        self._ask("jobs", *ids)
        asked = set(ids)
        return tuple(
            r
            for r in (*self._visible(), *self._open_records())
            if asked & {r.key.job_id, r.run.array_job_id, r.run.het_job_id}
            and r.key.start_time <= until
            and not 0 < r.end_time < since
        )

    def read_backlog(self) -> int:
        self._ask("backlog")
        return len(self.records) - len(self._visible())

    def read_nodes(self) -> tuple[Node, ...]:
        self._ask("nodes")
        return tuple(_node(name) for name in hostlist.expand("n2cn[001-006],n2gpu[01-02]"))

    # How it keeps that

    def _ask(self, what: str, *details: object) -> None:
        self.asked.append(" ".join(map(str, (what, *details))))
        fails = self.accounting in ("fails", "off") and what in ("window", "jobs", "backlog")
        if what in self.broken or fails:
            raise SourceError(f"{what}: broken on purpose")

    def _place(self, entry: Entry, nodes: str) -> None:
        entry.node_list, entry.cpus = nodes, CPUS_A_NODE * len(hostlist.expand(nodes))

    def _record(self, entry: Entry, state: str) -> None:
        if self.accounting == "on":
            self.shown = len(self.records) + 1
        run = msgspec.structs.replace(
            _run_of(entry), key=RunKey(CLUSTER, entry.job_id, entry.piece_start), state=state
        )
        self.records.append(Accounted(_from_accounting(run), self.clock, entry.admin_comment))

    def _visible(self) -> list[Accounted]:
        """All but what slurmctld has not handed over yet; `accounting = "on"` hands it over."""
        if self.accounting == "on":
            self.shown = len(self.records)
        return self.records[: self.shown]

    def _open_records(self) -> Iterator[Accounted]:
        ended = {(r.key.job_id, r.key.start_time) for r in self.records}
        for entry in self.entries.values():
            if entry.node_list and (entry.job_id, entry.piece_start) not in ended:
                run = msgspec.structs.replace(
                    _run_of(entry), key=RunKey(CLUSTER, entry.job_id, entry.piece_start)
                )
                yield Accounted(_from_accounting(run), 0, entry.admin_comment)


def _job_of(entry: Entry) -> Job:
    return Job(
        cluster=CLUSTER,
        job_id=entry.job_id,
        array_job_id=entry.array_job_id,
        array_task_id=entry.array_task_id,
        array_tasks=entry.array_tasks,
        het_job_id=entry.het_job_id,
        het_offset=entry.het_offset,
        user="ada",
        account="physics",
        partition="normal",
        qos="cont",
        state=entry.state,
        num_nodes=len(hostlist.expand(entry.node_list)),
        cpus=entry.cpus,
        gpus=entry.gpus,
        submit_time=entry.submit_time,
        start_time=entry.start_time,
        end_time=entry.end_time,
        reason="None",
        node_list=entry.node_list,
        name=entry.name,
        admin_comment=entry.admin_comment,
    )


def _run_of(entry: Entry) -> Run:
    return Run(
        key=RunKey(CLUSTER, entry.job_id, entry.start_time),
        user="ada",
        account="physics",
        partition="normal",
        state=entry.state,
        allocations=tuple(Allocation(h, CPUS_A_NODE, (0, 1)) for h in hostlist.expand(entry.node_list)),
        cpus=entry.cpus,
        gpus=entry.gpus,
        node_list=entry.node_list,
        qos="cont",
        name=entry.name,
        submit_time=entry.submit_time,
        array_job_id=entry.array_job_id,
        array_task_id=entry.array_task_id,
        het_job_id=entry.het_job_id,
        het_offset=entry.het_offset,
    )


def _from_accounting(run: Run) -> Run:
    hosts = tuple(Allocation(a.host) for a in run.allocations)
    return msgspec.structs.replace(run, allocations=hosts, seen_alive=False)


def _node(name: str) -> Node:
    return Node(
        name=name,
        states=("IDLE",),
        partitions=("normal",),
        cpus=32,
        alloc_cpus=0,
        sockets=2,
        cores_per_socket=8,
        threads_per_core=2,
        memory_mb=8000,
        alloc_memory_mb=0,
        load=None,
        gpus=(),
        reason="",
    )
