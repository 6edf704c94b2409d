"""The contract between the pass and its targets.

A *ledger* holds runs and is told of starts, changes and stops; a *snapshot* target shows the present
moment. A backend may be both. Backends know `model` and their own library, nothing else of ours.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from model import Ending, HostTopology, Placement, Resource, Run, RunKey, Snapshot


class TargetError(Exception):
    """The target as a whole cannot be served now: down, wrong token, unknown cluster, garbage."""


# What code raises that has a fault: ours, a library's, a site's own backend's. One target's fault must not
# keep the pass from the others, nor the state file from what was accepted already.
UNEXPECTED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Secret:
    """A token or password that never prints. `value` is the text, for the one call that needs it."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value.strip()

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


class KnownRun(msgspec.Struct, frozen=True, gc=False):
    """A run as the ledger holds it. State in cc-backend's words; "" where the ledger holds no node list."""

    state: str = "running"
    node_list: str = ""
    cpus: int = 0


class Facts(msgspec.Struct, frozen=True):
    """What a ledger is, as far as rendering depends on it."""

    version: str  # of the target; its generation where it does not tell more
    topology: Mapping[str, HostTopology] | None = None  # by host list; None: the target has none of its own
    saved: dict[str, Any] | None = None  # for the state file, so that an outage of the topology is survived
    no_starts: str = ""  # why nothing can be started now: its topology cannot be read


class Start(msgspec.Struct, frozen=True):
    run: Run
    placement: Placement
    body: dict[str, Any]  # what `render` made of it


class Change(msgspec.Struct, frozen=True):
    """A state change of a run that the ledger holds; `start` with its new resources where they changed."""

    key: RunKey
    state: str  # cc-backend's word
    start: Start | None = None


Verdict = Literal["done", "refused", "final", "failed", "lost"]


class Outcome(msgspec.Struct, frozen=True):
    """What became of one start, change or stop.

    done: it stands in the target (also when it already stood there) · refused: the target does not take
    this one now · final: never · failed: transient, the next pass tries again · lost: a stop of a run that
    it does not hold; what it accepted is gone, so the next pass starts it again.
    """

    key: RunKey
    verdict: Verdict
    reason: str = ""
    retry_within_s: int | None = None  # a refusal that should be tried again this soon
    blames_job: bool = False  # failed: the server answered, with a 5xx for this one


class Finding(msgspec.Struct, frozen=True):
    """A line of --check."""

    ok: bool
    text: str
    remedy: str = ""


class Deadline:
    """Until when a target may go on working in this pass."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left_s(self) -> float:
        return max(0.0, self._end - time.monotonic())


@runtime_checkable
class Ledger(Protocol):
    """A target that holds runs."""

    holds_changes: ClassVar[bool]  # can store suspended, resumed, resized

    def read_running(self) -> dict[RunKey, KnownRun]:
        """All runs that the target lists as not ended. Raise TargetError unless the list is whole."""
        ...

    def read_ended(self, candidates: Collection[RunKey]) -> set[RunKey]:
        """Those of the candidates that the target holds as ended. Raise TargetError."""
        ...

    def read_facts(self, saved: dict[str, Any] | None) -> Facts:
        """Version and topology; `saved` is an earlier Facts.saved to fall back on. Raise TargetError."""
        ...

    def render(self, run: Run, placement: Placement, facts: Facts) -> dict[str, Any]:
        """Pure: what would be stored of the run."""
        ...

    def start(self, starts: Sequence[Start], deadline: Deadline) -> Iterator[Outcome]:
        """Store runs, in order of start for each job id. Yield an outcome each; raise TargetError."""
        ...

    def change(self, changes: Sequence[Change], now: int, deadline: Deadline) -> Iterator[Outcome]: ...

    def stop(self, endings: Sequence[Ending], facts: Facts, deadline: Deadline) -> Iterator[Outcome]: ...


@runtime_checkable
class SnapshotTarget(Protocol):
    """A target that shows the present moment."""

    def publish(self, snapshot: Snapshot, deadline: Deadline) -> str:
        """Show it, whole or not at all; return a few words for the log. Raise TargetError."""
        ...

    def interval_s(self) -> int | None:
        """How many seconds lie between two publications at least; 0: every pass. None: it shows nothing."""
        ...


@runtime_checkable
class Backend(Protocol):
    """What all targets have. Made by `Class(section, cluster)`: its checked section, the cluster's name."""

    Section: ClassVar[type[msgspec.Struct]]  # the keys of its section of the configuration

    def identity(self) -> str:
        """What the state file is bound to: the target and the cluster in it; no secret."""
        ...

    def check(self) -> Iterator[Finding]:
        """Reachable? Which version, which rights? Writes nothing."""
        ...

    def close(self) -> None: ...


def render_job(run: Run, placement: Placement) -> dict[str, Any]:
    """A run in the words of cc-backend 1.5's start: all fields that are known, none that are empty.

    Fields as in cc-lib's schema/job.go. `walltime` is left out where there is no limit.
    """
    job: dict[str, Any] = {
        "jobId": run.key.job_id,
        "cluster": run.key.cluster,
        "user": run.user,
        "project": run.account,
        "partition": run.partition,
        "jobState": "running",
        "startTime": run.key.start_time,
        "numNodes": len(placement.resources),
        "numHwthreads": placement.num_hwthreads,
        "numAcc": placement.num_acc,
        "smt": placement.smt,
        "shared": run.sharing,
        "resources": [_render_resource(r) for r in placement.resources],
        "metaData": _render_metadata(run),
    }
    optional = {
        "arrayJobId": run.array_job_id,
        "submitTime": run.submit_time,
        "walltime": run.time_limit_s,
        "requestedMemory": run.memory_mb,
    }
    return job | {field: value for field, value in optional.items() if value}


def _render_resource(resource: Resource) -> dict[str, Any]:
    rendered: dict[str, Any] = {"hostname": resource.host}
    if resource.hwthreads:
        rendered["hwthreads"] = list(resource.hwthreads)
    if resource.accelerators:
        rendered["accelerators"] = list(resource.accelerators)
    return rendered


def _render_metadata(run: Run) -> dict[str, str]:
    metadata = {"jobName": run.name, "slurmInfo": run.info}
    if run.script is not None:
        metadata["jobScript"] = run.script
    if run.environment is not None:
        metadata["environment"] = run.environment
    return metadata
