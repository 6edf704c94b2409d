"""Snapshots for the portal's tests: a small cluster as Slurm 25.11 showed it, and large ones made up.

`RECORDED` has the values of a recorded moment with 11 nodes and 31 entries of the queue: shared, exclusive
and GPU nodes, one draining, one down, an array, a heterogeneous job, one suspended, one completing, hostile
names. Slurm itself counted 18 jobs running and 15 pending then.
"""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

from backends.portal import Groups, Portal, render_portal
from model import GpuCount, Job, Node, Snapshot

CLUSTER = "noctua"
NOW = 1795231884
SUBMITTED = NOW - 33
HOSTILE = '<script>alert(1)</script> "q" \\ 中文'
CONTROL = "new\nline\tand\x1f\x1e|sep"


def make_job(job_id: int, state: str = "RUNNING", **values: Any) -> Job:
    waiting = state == "PENDING"
    known: dict[str, Any] = {
        "cluster": CLUSTER,
        "job_id": job_id,
        "array_job_id": None,
        "array_task_id": None,
        "array_tasks": "",
        "het_job_id": None,
        "het_offset": None,
        "user": "alice",
        "account": "physics",
        "partition": "normal",
        "qos": "normal",
        "state": state,
        "num_nodes": 1,
        "cpus": 1 if waiting else 2,
        "gpus": 0,
        "submit_time": SUBMITTED,
        "start_time": 0 if waiting else NOW - 9,
        "end_time": 0,
        "reason": "Priority" if waiting else "None",
        "node_list": "" if waiting else "n2cn005",
        "name": f"job{job_id}",
        "admin_comment": "",
    }
    return Job(**known | values)


def make_node(name: str = "n1", *states: str, **values: Any) -> Node:
    known: dict[str, Any] = {
        "name": name,
        "states": states or ("IDLE",),
        "partitions": ("normal", "all"),
        "cpus": 32,
        "alloc_cpus": 0,
        "sockets": 2,
        "cores_per_socket": 8,
        "threads_per_core": 2,
        "memory_mb": 64000,
        "alloc_memory_mb": 0,
        "load": 0.0,
        "gpus": (),
        "reason": "",
    }
    return Node(**known | values)


def _chem(job_id: int, name: str, user: str = "bob", **values: Any) -> Job:
    return make_job(job_id, name=name, user=user, account="chem", **values)


def _gpu(job_id: int, user: str, gpus: int, cpus: int, node_list: str, start_time: int = NOW - 32) -> Job:
    account = "physics" if user == "alice" else "chem"
    return make_job(
        job_id, name=f"gpu{job_id}", user=user, account=account, partition="gpu", gpus=gpus, cpus=cpus,
        node_list=node_list, start_time=start_time, num_nodes=2 if "," in node_list else 1,
    )  # fmt: skip


def _task(job_id: int, task: int) -> Job:
    return _chem(
        job_id, "arr", node_list="n2cn004", start_time=NOW - 32, array_job_id=9, array_task_id=task
    )  # fmt: skip


SITE_TYPES = {"CPU": ["normal"], "BIG": ["fat"], "GPU36": ["gpu36"]}

JOBS = (
    make_job(1, name="share1", cpus=4, node_list="n2cn001", start_time=NOW - 33),
    _chem(2, "share2", cpus=6, node_list="n2cn001", start_time=NOW - 33),
    _chem(3, "spans socket", "carol", cpus=12, node_list="n2cn001", start_time=NOW - 33),
    make_job(4, name="exclusive2", num_nodes=2, cpus=64, node_list="n2cn[002-003]", start_time=NOW - 32),
    _gpu(5, "bob", 1, 2, "n2gpu01"),
    _gpu(6, "carol", 2, 2, "n2gpu01"),
    _gpu(7, "alice", 3, 4, "n2dgx01"),
    _gpu(8, "alice", 4, 4, "n2dgx01,n2gpu02"),
    _task(30, 0),
    _task(31, 1),
    _task(32, 2),
    _chem(10, "hetjob", node_list="n2cn004", het_job_id=10, het_offset=0),
    _chem(11, "hetjob", partition="gpu", cpus=1, node_list="n2gpu02", het_job_id=10, het_offset=1),
    _gpu(12, "carol", 1, 1, "n2fpga01", NOW - 9),
    make_job(13, "PENDING", name="pend_resources", user="carol", reason="Resources", num_nodes=4, cpus=4),
    make_job(14, "PENDING", name="pend_held", user="carol", reason="JobHeldUser"),
    make_job(15, "PENDING", name="dep_parent", user="carol", start_time=NOW + 1836),
    make_job(16, "PENDING", name="pend_dep", user="carol", reason="Dependency"),
    make_job(17, "PENDING", name="failing"),
    make_job(18, "PENDING", name="completing_ok"),
    make_job(19, "PENDING", name="timeouts"),
    make_job(21, "PENDING", name=HOSTILE),
    _chem(22, CONTROL),
    _chem(23, "optout", admin_comment="disable_cc_submission"),
    make_job(24, name="badenv"),
    make_job(25, "SUSPENDED", name="suspended", partition="all"),
    make_job(26, "PENDING", name="unlimited"),
    make_job(27, "COMPLETING", name="slow_epilog", end_time=NOW - 3),
    make_job(
        28, "PENDING", name="excl_user", user="carol", partition="all", cpus=3, reason="ReqNodeNotAvail"
    ),
    _chem(29, "interactive", "carol"),
    make_job(
        9, "PENDING", name="arr", user="bob", array_job_id=9, array_tasks="3-7%3", reason="JobArrayTaskLimit"
    ),
)

_GPU_NODE: dict[str, Any] = {"partitions": ("gpu", "all"), "threads_per_core": 1, "cpus": 16}
NODES = (
    make_node("n2cn001", "MIXED", alloc_cpus=22, alloc_memory_mb=6000, load=21.97),
    make_node("n2cn002", "ALLOCATED", alloc_cpus=32, alloc_memory_mb=64000),
    make_node("n2cn003", "ALLOCATED", "DRAIN", alloc_cpus=32, alloc_memory_mb=64000, reason="bad dimm"),
    make_node("n2cn004", "MIXED", "PLANNED", alloc_cpus=8, alloc_memory_mb=400),
    make_node("n2cn005", "MIXED", "COMPLETING", "PLANNED", alloc_cpus=8, alloc_memory_mb=500),
    make_node("n2cn006", "IDLE", "MAINTENANCE", "RESERVED", "PLANNED"),
    make_node(
        "n2dgx01", "MIXED", partitions=("gpu", "all"), cpus=64, cores_per_socket=16, alloc_cpus=6,
        memory_mb=128000, alloc_memory_mb=2000, gpus=(GpuCount("a100", 4, 3), GpuCount("h100", 4, 2)),
    ),
    make_node(
        "n2fpga01", "MIXED", partitions=("gpu", "all"), cpus=4, sockets=1, cores_per_socket=4,
        threads_per_core=1, alloc_cpus=1, memory_mb=16000, alloc_memory_mb=100, gpus=(GpuCount("", 2, 1),),
    ),
    make_node(
        "n2gpu01", "MIXED", **_GPU_NODE, alloc_cpus=4, alloc_memory_mb=2000, gpus=(GpuCount("a100", 4, 3),)
    ),
    make_node(
        "n2gpu02", "MIXED", "PLANNED", **_GPU_NODE, alloc_cpus=3, alloc_memory_mb=1100,
        gpus=(GpuCount("a100", 4, 2),),
    ),
    make_node(
        "n2off01", "DOWN", "NOT_RESPONDING", partitions=("all",), cpus=4, sockets=1, cores_per_socket=4,
        threads_per_core=1, memory_mb=16000, load=None, reason="decommissioned",
    ),
)  # fmt: skip

RECORDED = Snapshot(cluster=CLUSTER, now=NOW, jobs=JOBS, nodes=NODES)
WITH_PUE = Snapshot(cluster=CLUSTER, now=NOW, jobs=JOBS, nodes=NODES, pue=(1.234, 567.891))


def snapshot(**values: Any) -> Snapshot:
    """One with nothing in it but what is given."""
    known: dict[str, Any] = {"cluster": CLUSTER, "now": NOW, "jobs": (), "nodes": ()}
    return Snapshot(**known | values)


def large(jobs: int, nodes: int, seed: int = 1) -> Snapshot:
    """A busy cluster: one job in ten runs, one in twenty is an array, one node in ten has cards."""
    rng = random.Random(seed)
    queue = []
    for number in range(jobs):
        state = "RUNNING" if number % 10 == 0 else "PENDING"
        array = number % 20 == 1
        queue.append(
            make_job(
                1_000_000 + number,
                state,
                name=f"simulation step {number}",
                user=f"user{number % 400:03}",
                partition="gpu" if number % 4 == 0 else "normal",
                gpus=4 if number % 4 == 0 else 0,
                submit_time=NOW - rng.randrange(500_000),
                array_tasks="0-99%10" if array else "",
                array_job_id=1_000_000 + number if array else None,
            )
        )
    return snapshot(jobs=tuple(queue), nodes=tuple(_large_node(number, rng) for number in range(nodes)))


def _large_node(number: int, rng: random.Random) -> Node:
    gpus = (GpuCount("a100", 4, rng.randrange(5)),) if number % 10 == 0 else ()
    return make_node(f"n2cn{number:04}", "MIXED", cpus=128, alloc_cpus=rng.randrange(129), gpus=gpus)


def crowd(size: int) -> Snapshot:
    """All of its keys tell the same number."""
    jobs = tuple(make_job(number, user=f"user{number}") for number in range(1, size + 1))
    nodes = tuple(make_node(f"n{number}", gpus=(GpuCount("", 1, 1),)) for number in range(size))
    return snapshot(jobs=jobs, nodes=nodes, pue=(float(size), 1.0))


class Read(NamedTuple):
    """A rendered portal as a reader has it."""

    hashes: dict[str, dict[str, str]]
    lists: dict[str, list[dict[str, Any]]]


def read(portal: Portal) -> Read:
    hashes = {
        name: {field: text.decode() if isinstance(text, bytes) else text for field, text in fields.items()}
        for name, fields in (portal.hashes | portal.patches).items()
    }
    lists = {name: [json.loads(entry) for entry in entries] for name, entries in portal.lists.items()}
    return Read(hashes, lists)


def render(snapshot_: Snapshot, groups: Groups | None = None) -> Read:
    return read(render_portal(snapshot_, groups or Groups()))


def numbers(fields: dict[str, str], *names: str) -> list[int]:
    return [int(fields[name]) for name in names]
