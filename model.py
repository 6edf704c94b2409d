"""What every part speaks of: runs, jobs, allocations, nodes, endings, snapshots.

Frozen records and the words for their states; no reading, no writing, no deciding.
Times are epoch seconds (UTC), memory is MiB as Slurm counts it, units stand in names.
"""

from __future__ import annotations

import msgspec

# Words of squeue's text (slurm.h; the order in which flags hide the base state is in slurm/wire.py).
ACTIVE = frozenset({"RUNNING", "SUSPENDED", "STOPPED"})
WAITING = frozenset(
    {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "EXPEDITING"}
)
ENDED = frozenset(
    {
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "OUT_OF_MEMORY",
    }
)

_LEDGER_WORDS = {
    "RUNNING": "running",
    "SUSPENDED": "suspended",
    "STOPPED": "suspended",
    "COMPLETED": "completed",
    "CANCELLED": "cancelled",
    "REQUEUED": "cancelled",
    "REVOKED": "cancelled",
    "FAILED": "failed",
    "TIMEOUT": "timeout",
    "NODE_FAIL": "node_fail",
    "PREEMPTED": "preempted",
    "BOOT_FAIL": "boot_fail",
    "DEADLINE": "deadline",
    "OUT_OF_MEMORY": "out_of_memory",
}


def ledger_state(word: str) -> str:
    """Slurm's state word in the words of cc-backend 1.5; a word that nobody knows is `failed`."""
    return _LEDGER_WORDS.get(word, "failed")


class RunKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """A run of a job. A requeued job keeps its id and gets another start: it is another run."""

    cluster: str
    job_id: int
    start_time: int

    def __str__(self) -> str:
        return f"{self.job_id}@{self.start_time}"


class Job(msgspec.Struct, frozen=True, gc=False):
    """An entry of the queue's listing: a waiting job or array, an active run, or one that just ended."""

    cluster: str
    job_id: int
    array_job_id: int | None  # None: no array
    array_task_id: int | None  # None: no array, or an array of which `array_tasks` wait
    array_tasks: str  # the waiting tasks as Slurm writes them (`3-7%3`), "" for a single job
    het_job_id: int | None  # the leader's id; None: not heterogeneous
    het_offset: int | None
    user: str
    account: str
    partition: str  # waiting: may be a comma-separated list
    qos: str
    state: str  # one word, as squeue's text gives it
    num_nodes: int
    cpus: int
    gpus: int  # held, or asked for while waiting
    submit_time: int
    start_time: int  # 0: none; an expectation while waiting
    end_time: int  # 0: none; an expectation while running
    reason: str  # the word alone
    node_list: str  # compressed; "" while waiting, or when it never ran
    name: str
    admin_comment: str

    @property
    def key(self) -> RunKey:
        return RunKey(self.cluster, self.job_id, self.start_time)


class Device(msgspec.Struct, frozen=True, gc=False):
    """Devices of one name and type on one node."""

    name: str  # gpu, fpga, …
    type: str  # "": untyped
    count: int
    indexes: tuple[int, ...] | None  # Slurm's indexes on that node; None: not told


class Allocation(msgspec.Struct, frozen=True, gc=False):
    """What a run holds on one node."""

    host: str
    cpus: int | None = None  # Slurm's CPUs (hardware threads as Slurm counts them); None: not told
    cores: tuple[int, ...] | None = None  # node-wide core numbers, socket × cores per socket + core
    devices: tuple[Device, ...] = ()


class Run(msgspec.Struct, frozen=True):
    """One run with all that a ledger stores of it."""

    key: RunKey
    user: str
    account: str
    partition: str
    state: str  # Slurm's word: RUNNING, SUSPENDED, … or the ending's for a run known from accounting
    allocations: tuple[Allocation, ...]  # one a node, in Slurm's order
    cpus: int
    gpus: int
    node_list: str
    qos: str = ""
    name: str = ""
    submit_time: int = 0
    time_limit_s: int | None = None  # None: no limit
    memory_mb: int = 0  # all nodes together; 0: not told
    sharing: str = "multi_user"  # none, single_user, multi_user: who else may be on its nodes
    array_job_id: int | None = None
    array_task_id: int | None = None
    het_job_id: int | None = None
    het_offset: int | None = None
    seen_alive: bool = True  # False: known from accounting alone, so there are no ids
    info: str = ""  # `Key=Value` lines for people
    script: str | None = None  # None: there is none, or it is not to be sent
    environment: str | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(a.host for a in self.allocations)


class Ending(msgspec.Struct, frozen=True, gc=False):
    """A reported end of exactly this run."""

    key: RunKey
    state: str  # Slurm's word
    end_time: int
    evidence: str  # where it stands: squeue, sacct, requeued, written off


class Resource(msgspec.Struct, frozen=True, gc=False):
    """A node of a run in a target's own numbering."""

    host: str
    hwthreads: tuple[int, ...] | None  # None: not told
    accelerators: tuple[str, ...]


class Placement(msgspec.Struct, frozen=True, gc=False):
    """Where a run lies, in a target's own numbering."""

    resources: tuple[Resource, ...]
    num_hwthreads: int
    num_acc: int
    smt: int  # 1: holds more than one thread of a core, else 0


class HostTopology(msgspec.Struct, frozen=True):
    """A kind of node as a target numbers it."""

    cores: tuple[tuple[int, ...], ...]  # by Slurm's node-wide core number: that core's hwthread ids
    accelerators: tuple[str, ...]  # by index


class GpuCount(msgspec.Struct, frozen=True, gc=False):
    type: str  # "": untyped
    total: int
    allocated: int


class Node(msgspec.Struct, frozen=True, gc=False):
    name: str
    states: tuple[str, ...]  # all of Slurm's words, upper case, the base first
    partitions: tuple[str, ...]
    cpus: int
    alloc_cpus: int
    sockets: int
    cores_per_socket: int
    threads_per_core: int
    memory_mb: int
    alloc_memory_mb: int
    load: float | None  # None: not reported
    gpus: tuple[GpuCount, ...]
    reason: str
    owner: str = ""  # the user whose --exclusive=user jobs have it


class Snapshot(msgspec.Struct, frozen=True):
    """All that a status page shows of one moment."""

    cluster: str
    now: int
    # Waiting and active ones, those that ended are left out; None: not read, what stands there stays.
    jobs: tuple[Job, ...] | None
    nodes: tuple[Node, ...] | None  # None: could not be read, what stands there stays
    jobs_on: dict[str, int] = {}  # host → runs that hold something on it
    pue: tuple[float, float] | None = None  # (PUE, power); None: not asked, or failed
