"""ClusterCockpit's cc-backend, a job ledger reached by its REST API, and a place for node states.

Bodies are decoded strictly there: one field that the generation does not know is a 400 for the whole
job. Facts by release were read off its sources and asked of running servers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

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
    render_job,
)
from backends.cc_client import Client, Reply
from backends.cc_facts import facts_of_old, parse_topology, read_topology
from model import Ending, Placement, Run, RunKey, Snapshot, ledger_state

PAGE = 5_000
GAP_S = 900  # candidates that started within so much of each other are asked for in one range
HOUR_S = 3_600

_OLD_STATES = frozenset({"completed", "failed", "cancelled", "timeout", "preempted", "out_of_memory"})
_EXCLUSIVE = {"multi_user": 0, "none": 1, "single_user": 2}
_NEW_FIELDS = ("shared", "submitTime", "requestedMemory")  # from 1.5

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
        self._client = Client(section.host, section.apikey, section.timeout_s, section.ca_file)
        self._generation: str | None = section.version
        self._asking = Deadline(120)

    def identity(self) -> str:
        return f"{self._section.host.rstrip('/')}#{self._cluster}"

    def close(self) -> None:
        self._client.close()

    def check(self) -> Iterator[Finding]:
        yield from cc_check.check(self, self._client, self._section.apikey, self._cluster)

    # What it holds

    def read_running(self) -> dict[RunKey, KnownRun]:
        listed = self._list("state=running")
        return {self._key(job): KnownRun(job.jobState) for job in listed}

    def read_ended(self, candidates: Collection[RunKey]) -> set[RunKey]:
        """Asked by start alone: a state's word that the version does not know is a 400 for the whole list."""
        found: set[RunKey] = set()
        for first, last in _spans(sorted({key.start_time for key in candidates})):
            listed = self._list(f"start-time={first}-{last}")
            found |= {self._key(job) for job in listed if job.jobState != "running"} & set(candidates)
        return found

    def _key(self, job: _ListedJob) -> RunKey:
        return RunKey(self._cluster, job.jobId, job.startTime)

    def _list(self, query: str) -> list[_ListedJob]:
        """All pages. Jobs that arrive meanwhile push others to the next page: those come twice."""
        found: list[_ListedJob] = []
        for page in range(1, 1_000):
            path = f"/jobs/?cluster={self._cluster}&{query}&items-per-page={PAGE}&page={page}"
            reply = self._client.get(path, self._asking)
            if reply.status != 200:
                raise TargetError(f"its list of jobs answers {reply.status}: {reply.said()}")
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
        reply = self._client.get(f"/clusters/?cluster={self._cluster}", self._asking)
        if reply.status == 404 and self._section.version is None and generation != "1.5":
            self._generation = "1.2"
            return Facts("1.2")
        if reply.status == 400:
            raise TargetError(f"it does not know the cluster {self._cluster!r}: {reply.said()}")
        if reply.status == 200:
            kept = {"topology": parse_topology(reply)}
            return Facts(generation, read_topology(kept), kept)
        return facts_of_old(generation, saved, f"its topology answers {reply.status}")

    def _find_generation(self) -> str:
        """By which routes are there; asked without a side effect. "1.3" stands for 1.3 and 1.4."""
        if self._generation is None:
            reply = self._client.get("/nodestate/", self._asking)
            if reply.status not in (404, 405):
                raise TargetError(f"which version it is cannot be told ({reply.status}); set `version`")
            self._generation = "1.5" if reply.status == 405 else "1.3"
        return self._generation

    def render(self, run: Run, placement: Placement, facts: Facts) -> dict[str, Any]:
        body = render_job(run, placement)
        if facts.version != "1.5":
            exclusive = _EXCLUSIVE[run.sharing]
            body = {k: v for k, v in body.items() if k not in _NEW_FIELDS} | {"exclusive": exclusive}
        return body

    # What it is told

    def start(self, starts: Sequence[Start], deadline: Deadline) -> Iterator[Outcome]:
        """Runs of one job id one after the other: an older run sent after a newer one would be refused."""
        return self._spread([(s.run.key, s) for s in starts], self._start_one, deadline)

    def _start_one(self, start: Start, deadline: Deadline) -> Outcome:
        key = start.run.key
        reply = self._client.post("/jobs/start_job/", msgspec.json.encode(start.body), deadline)
        if reply.status == 201:
            return Outcome(key, "done")
        said = reply.said()
        if reply.status == 422:
            return self._settle_refused_start(key, deadline)
        if reply.status == 400:
            return _bad_start(key, said)
        if reply.status >= 500:
            return _failed_start(key, reply.status, said)
        raise TargetError(f"its route for starts answers {reply.status}: {said}")

    def _settle_refused_start(self, key: RunKey, deadline: Deadline) -> Outcome:
        """422 answers a run that it holds already, and a run that its day rule refuses: its list tells."""
        if self._ask(key, deadline) is not None:
            return Outcome(key, "done")
        return Outcome(key, "final", "cc-backend holds another run of this job id within a day of it")

    def change(self, changes: Sequence[Change], now: int, deadline: Deadline) -> Iterator[Outcome]:
        return iter(())

    def stop(self, endings: Sequence[Ending], facts: Facts, deadline: Deadline) -> Iterator[Outcome]:
        work = [(ending.key, (ending, facts.version)) for ending in endings]
        return self._spread(work, self._stop_one, deadline)

    def _stop_one(self, task: tuple[Ending, str], deadline: Deadline) -> Outcome:
        ending, generation = task
        body = msgspec.json.encode(render_stop(ending, generation))
        reply = self._client.post("/jobs/stop_job/", body, deadline)
        if reply.status == 200:
            reply.document()  # a proxy's page of greeting is no acceptance
            return Outcome(ending.key, "done")
        said = reply.said()
        if reply.status in (400, 422) or (reply.status == 404 and "finding job failed" in said):
            return self._settle_refused_stop(ending.key, said, deadline)
        if reply.status >= 500:
            return Outcome(ending.key, "failed", f"{reply.status}: {said}", blames_job=True)
        raise TargetError(f"its route for stops answers {reply.status}: {said}")

    def _settle_refused_stop(self, key: RunKey, said: str, deadline: Deadline) -> Outcome:
        """It has ended already, or is not there, or is really refused: its list tells."""
        state = self._ask(key, deadline)
        if state is None:
            return Outcome(key, "lost", f"it does not hold this run: {said}")
        return Outcome(key, "refused", said) if state == "running" else Outcome(key, "done")

    def _ask(self, key: RunKey, deadline: Deadline) -> str | None:
        """The state of one run; None: it is not in its list."""
        jobs = self._list(f"start-time={key.start_time}-{key.start_time}")
        return next((job.jobState for job in jobs if self._key(job) == key), None)

    def _spread(
        self, work: list[tuple[RunKey, T]], do: Callable[[T, Deadline], Outcome], deadline: Deadline
    ) -> Iterator[Outcome]:
        """Over a few connections, the runs of one job id in order. What concerns the target ends it all."""
        ordered = sorted(work, key=lambda item: (item[0].job_id, item[0].start_time))
        groups = [[task for _, task in tasks] for _, tasks in groupby(ordered, key=lambda i: i[0].job_id)]
        groups.sort(key=lambda tasks: len(tasks), reverse=True)
        errors: list[TargetError] = []
        with ThreadPoolExecutor(min(self._section.connections, max(1, len(groups)))) as pool:
            futures = [pool.submit(_each, tasks, do, deadline, errors) for tasks in groups]
            for future in as_completed(futures):
                yield from future.result()
        if errors:
            raise errors[0]

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


def _each(
    tasks: Sequence[T],
    do: Callable[[T, Deadline], Outcome],
    deadline: Deadline,
    errors: list[TargetError],
) -> list[Outcome]:
    """Outcomes of what was done; the first error of the target stops all that has not begun."""
    done: list[Outcome] = []
    for task in tasks:
        if errors:
            break
        try:
            done.append(do(task, deadline))
        except TargetError as error:
            errors.append(error)
    return done


def render_stop(ending: Ending, generation: str) -> dict[str, Any]:
    """A stop's body. Up to 1.4 it must end a second after its start, and fewer words are known."""
    key, state = ending.key, ledger_state(ending.state)
    stop_time = max(ending.end_time, key.start_time)
    if generation != "1.5":
        stop_time = max(stop_time, key.start_time + 1)
        state = state if state in _OLD_STATES else "failed"
    return {
        "jobId": key.job_id,
        "cluster": key.cluster,
        "startTime": key.start_time,
        "stopTime": stop_time,
        "jobState": state,
    }


def _bad_start(key: RunKey, said: str) -> Outcome:
    if "no such cluster" in said or "unknown cluster" in said:
        raise TargetError(said)
    if "unknown field" in said:
        raise TargetError(f"it is of another version than it seemed ({said}); set `version`")
    if "no subcluster found" in said:
        return Outcome(key, "refused", said, retry_within_s=HOUR_S)  # clusters are extended
    return Outcome(key, "refused", said or "400")


def _failed_start(key: RunKey, status: int, said: str) -> Outcome:
    if "UNIQUE constraint failed" in said:
        return Outcome(key, "done")  # 1.5: it lies in the cache table; the first answer was lost
    if "CHECK constraint failed" in said:
        return Outcome(key, "refused", said)
    return Outcome(key, "failed", f"{status}: {said}", blames_job=True)


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
