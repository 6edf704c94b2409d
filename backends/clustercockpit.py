"""ClusterCockpit's cc-backend, a job ledger reached by its REST API, and a place for node states.

Bodies are decoded strictly there: one field that the generation does not know is a 400 for the whole
job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from urllib.parse import quote

import msgspec

from backends import cc_check, cc_nodes
from backends.base import (
    Change,
    Deadline,
    Facts,
    Finding,
    KnownRun,
    Outcome,
    Secret,
    Start,
    TargetError,
)
from backends.cc_client import Client, Reply, Unanswered
from backends.cc_facts import facts_of_old, read_topology, topology_of
from backends.cc_jobs import (
    is_refused_stop,
    judge_conflict,
    judge_start,
    judge_stop,
    render_start,
    render_stop,
)
from backends.cc_spread import spread
from model import Ending, Placement, Run, RunKey, Snapshot

PAGE = 5_000
READING_S = 60  # for each question, its repetitions included
GAP_S = 900  # candidates that started within so much of each other are asked for in one range

Generation = Literal["1.2", "1.3", "1.4", "1.5"]
T = TypeVar("T")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    apikey: Secret
    version: Generation | None = None  # None: found out by itself
    ca_file: Path | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    connections: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4
    node_states: bool = True
    nodestate_interval_s: Annotated[int, msgspec.Meta(ge=0)] = 300


class _ListedJob(msgspec.Struct):
    jobId: int
    startTime: int
    jobState: str


class _JobList(msgspec.Struct):
    jobs: list[_ListedJob] | None


class ClusterCockpit:
    """The ledger `cc-backend`."""

    Section: ClassVar[type[msgspec.Struct]] = _Section
    holds_changes: ClassVar[bool] = False  # it knows running and ended

    def __init__(self, section: _Section, cluster: str) -> None:
        self._section, self._cluster = section, cluster
        self._name = quote(cluster, safe="")  # within an address
        self._client = Client(section.host, section.apikey, section.timeout_s, section.ca_file)
        self._generation: str | None = section.version

    def identity(self) -> str:
        return f"{self._section.host.rstrip('/').removesuffix('/api')}#{self._cluster}"

    def close(self) -> None:
        self._client.close()

    def check(self) -> Iterator[Finding]:
        yield from cc_check.check(self, self._client, self._section.apikey, self._cluster)

    # What it holds

    def read_running(self) -> dict[RunKey, KnownRun]:
        listed = self._list("state=running", Deadline(READING_S))
        return {self._key(job): KnownRun(job.jobState) for job in listed}

    def read_ended(self, candidates: Collection[RunKey]) -> set[RunKey]:
        """Asked by start alone: a state's word that the version does not know is a 400 for the whole list."""
        found: set[RunKey] = set()
        for first, last in _spans(sorted({key.start_time for key in candidates})):
            listed = self._list(f"start-time={first}-{last}", Deadline(READING_S))
            found |= {self._key(job) for job in listed if job.jobState != "running"} & set(candidates)
        return found

    def _key(self, job: _ListedJob) -> RunKey:
        return RunKey(self._cluster, job.jobId, job.startTime)

    def _list(self, query: str, deadline: Deadline) -> list[_ListedJob]:
        """All pages. Jobs that arrive meanwhile push others to the next page: those come twice."""
        found: list[_ListedJob] = []
        for page in range(1, 1_000):
            path = f"/jobs/?cluster={self._name}&{query}&items-per-page={PAGE}&page={page}"
            reply = self._client.get(path, deadline)
            if reply.status != 200:
                raise TargetError(f"its list of jobs answers {reply.status}: {reply.said()}; is host right?")
            jobs = _decode(reply, _JobList).jobs or []
            found += jobs
            if len(jobs) < PAGE:
                return found
        raise TargetError("its list of jobs does not end")

    # What it is

    def read_facts(self, saved: dict[str, Any] | None) -> Facts:
        generation = self._find_generation()
        if generation == "1.2":
            return Facts(generation)
        try:
            reply = self._client.get(f"/clusters/?cluster={self._name}", Deadline(READING_S))
        except Unanswered as error:
            return facts_of_old(generation, saved, str(error))
        if reply.status == 404 and self._section.version is None and generation != "1.5" and saved is None:
            self._generation = "1.2"
            return Facts("1.2")
        if reply.status == 400:
            raise TargetError(f"it does not know the cluster {self._cluster!r}: {reply.said()}")
        found = topology_of(reply)
        if found is None:
            return facts_of_old(generation, saved, f"its topology cannot be read ({reply.status})")
        return Facts(generation, read_topology(found), found)

    def _find_generation(self) -> str:
        """By which routes are there; asked without a side effect. "1.3" stands for 1.3 and 1.4."""
        if self._generation is None:
            reply = self._client.get("/nodestate/", Deadline(READING_S))
            if reply.status not in (404, 405):
                raise TargetError(f"which version it is cannot be told ({reply.status}); set `version`")
            self._generation = "1.5" if reply.status == 405 else "1.3"
        return self._generation

    def render(self, run: Run, placement: Placement, facts: Facts) -> dict[str, Any]:
        return render_start(run, placement, facts.version)

    # What it is told

    def start(self, starts: Sequence[Start], deadline: Deadline) -> Iterator[Outcome]:
        work = [(start.run.key, start) for start in starts]
        return spread(work, lambda start: self._start_one(start, deadline), self._section.connections)

    def _start_one(self, start: Start, deadline: Deadline) -> Outcome:
        key = start.run.key
        reply = self._client.post("/jobs/start_job/", msgspec.json.encode(start.body), deadline)
        if reply.status == 201:
            return Outcome(key, "done")
        if reply.status == 422:
            return judge_conflict(key, self._ask(key, deadline))
        return judge_start(key, reply)

    def change(self, changes: Sequence[Change], now: int, deadline: Deadline) -> Iterator[Outcome]:
        return iter(())

    def stop(self, endings: Sequence[Ending], facts: Facts, deadline: Deadline) -> Iterator[Outcome]:
        work = [(ending.key, ending) for ending in endings]
        return spread(work, lambda ending: self._stop_one(ending, facts, deadline), self._section.connections)

    def _stop_one(self, ending: Ending, facts: Facts, deadline: Deadline) -> Outcome:
        body = msgspec.json.encode(render_stop(ending, facts.version))
        reply = self._client.post("/jobs/stop_job/", body, deadline)
        if reply.status == 200:
            reply.document()  # a proxy's page of greeting is no acceptance
            return Outcome(ending.key, "done")
        if is_refused_stop(reply):
            return judge_stop(ending.key, self._ask(ending.key, deadline), reply.said())
        raise TargetError(f"its route for stops answers {reply.status}: {reply.said()}")

    def _ask(self, key: RunKey, deadline: Deadline) -> str | None:
        """The state of one run; None: it is not in its list."""
        jobs = self._list(f"start-time={key.start_time}-{key.start_time}", deadline)
        return next((job.jobState for job in jobs if self._key(job) == key), None)

    # Node states

    def interval_s(self) -> int | None:
        too_old = self._section.version not in (None, "1.5")
        return None if too_old or not self._section.node_states else self._section.nodestate_interval_s

    def publish(self, snapshot: Snapshot, deadline: Deadline) -> str:
        """All nodes in one POST: its plots want all nodes of one moment. Only from 1.5 on."""
        if snapshot.nodes is None or self._find_generation() != "1.5":
            return ""
        body = cc_nodes.render(snapshot, self._cluster)
        reply = self._client.post("/nodestate/", msgspec.json.encode(body), deadline)
        if reply.status != 200:
            raise TargetError(f"node states are refused ({reply.status}: {reply.said()})")
        return f"{len(snapshot.nodes)} node states"


def _spans(times: Sequence[int]) -> Iterator[tuple[int, int]]:
    """A few ranges that hold all of the times."""
    first = last = None
    for at in times:
        if first is None or last is None:
            first = last = at
        elif at - last > GAP_S:
            yield first, last
            first = last = at
        else:
            last = at
    if first is not None and last is not None:
        yield first, last


def _decode(reply: Reply, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise TargetError(f"answered {reply.status} with something that is not cc-backend's") from None
