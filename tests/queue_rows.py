"""Rows of the queue's listing as squeue prints them, and the jobs that they stand for, for the tests."""

from __future__ import annotations

from typing import Any

import msgspec
from recordings import CLUSTER, LISTING_HEADER

from model import Job
from slurm import queue

SEP = "x0123456789aby"
T = 1_795_231_851

WAITING = Job(
    cluster=CLUSTER,
    job_id=4711,
    array_job_id=None,
    array_task_id=None,
    array_tasks="",
    het_job_id=None,
    het_offset=None,
    user="ada",
    account="physics",
    partition="normal",
    qos="normal",
    state="PENDING",
    num_nodes=1,
    cpus=1,
    gpus=0,
    submit_time=T,
    start_time=0,
    end_time=0,
    reason="Priority",
    node_list="",
    name="train",
    admin_comment="",
)
RUNNING = msgspec.structs.replace(WAITING, state="RUNNING", start_time=T + 5, reason="", node_list="n[1-2]")
ALIVE = {"State": "RUNNING", "StartTime": str(T + 5), "Reason": "None", "NodeList": "n[1-2]"}

_ROW = {
    **{"JobID": "4711", "ArrayJobID": "4711", "ArrayTaskID": "N/A", "HetJobID": "N/A", "HetJobOffset": "N/A"},
    **{"UserName": "ada", "UserID": "2001", "Account": "physics", "Partition": "normal", "QOS": "normal"},
    **{"State": "PENDING", "NumNodes": "1", "NumCPUs": "1", "tres-alloc": "cpu=1,mem=100M,node=1"},
    **{"SubmitTime": str(T), "StartTime": "N/A", "EndTime": "N/A", "Reason": "Priority", "NodeList": ""},
    **{"Name": "train", "admin_comment": "(null)"},
}


def a_job(base: Job = WAITING, **changes: Any) -> Job:
    changed: Job = msgspec.structs.replace(base, **changes)
    return changed


def text(*rows: dict[str, str], header: tuple[str, ...] = LISTING_HEADER) -> bytes:
    """What squeue prints of WAITING, once for each row, which tells what differs."""
    fields = [header, *(tuple((_ROW | row)[name] for name in queue.FIELDS) for row in rows)]
    return "".join("".join(f + SEP for f in row) + "\n" for row in fields).encode("utf-8", "surrogateescape")


def parse(answer: bytes) -> tuple[Job, ...]:
    return queue.parse_listing(answer, SEP, CLUSTER)
