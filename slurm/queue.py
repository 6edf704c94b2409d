"""The listing of the queue: squeue's text, or its JSON, → Job records. Parses only.

The text (`squeue -O` with a separator that no job's owner can guess) is what a pass reads: 0.2 s for
20,600 jobs where JSON needs 15 s and 3.3 GB. The JSON serves recordings that lack the text; a live test
holds both ways equal.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from model import ENDED, WAITING, Allocation, Job, Run
from slurm import document, hostlist, wire
from slurm.columns import CutError, Known, decoded, split_rows
from slurm.document import AnswerError

# The last field may be any: each is followed by the separator. `Name` and `admin_comment` hold what
# users write, newlines included.
FIELDS = (
    "JobID",
    "ArrayJobID",
    "ArrayTaskID",
    "HetJobID",
    "HetJobOffset",
    "UserName",
    "UserID",
    "Account",
    "Partition",
    "QOS",
    "State",
    "NumNodes",
    "NumCPUs",
    "tres-alloc",
    "SubmitTime",
    "StartTime",
    "EndTime",
    "Reason",
    "NodeList",
    "Name",
    "admin_comment",
)

MAX_TASKS = 4_000_001  # MaxArraySize is at most that; an absurd range must not eat the memory
_TASKS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?(?::([0-9]{1,9}))?")


def new_separator() -> str:
    """One that begins with a letter and holds no comma, as -O demands, and that nobody can guess."""
    return f"x{secrets.token_hex(6)}y"  # ends unlike it begins: a name cannot overlap with it


def listing_arguments(separator: str) -> list[str]:
    columns = ",".join(f"{field}:{separator}" for field in FIELDS)
    return ["-a", "-t", "all", "--local", "-O", columns]


def parse_listing(answer: bytes, separator: str, cluster: str) -> tuple[Job, ...]:
    """All entries. Raise AnswerError unless the text has its header and ends with a whole row."""
    rows, columns = split_rows(answer, separator.encode(), len(FIELDS)), _Columns()
    try:
        header = next(rows, ())
        if not header or header[0].isdigit() or b"\n" in b"".join(header):
            raise AnswerError("squeue: the listing has no header as asked for")
        return tuple(_job_of_text(row, cluster, columns) for row in rows)
    except CutError:
        raise AnswerError("squeue: the listing ends in the middle of a row") from None


class _Columns:
    def __init__(self) -> None:
        self.texts, self.numbers = Known(wire.text), Known(wire.number)
        self.states = Known(wire.state_word)
        self.users = Known(_user_of)
        self.gpus = Known(lambda text: wire.gpus_in_tres(wire.tres(text)))
        self.reasons = Known(lambda text: wire.reason_word(wire.text(text)))


def _user_of(text: str) -> str:
    uid, _, user = text.partition(" ")
    return wire.user_name(wire.text(user), uid)


def _job_of_text(row: tuple[bytes, ...], cluster: str, columns: _Columns) -> Job:
    (job_id, array_id, task, het_id, het_offset, user, uid, account, partition, qos, state) = row[:11]
    (nodes, cpus, tres, submit, start, end, reason, node_list, name, admin_comment) = row[11:]
    number = wire.number(decoded(job_id[1:]))  # behind the end of the row before it
    if not number or not job_id.startswith(b"\n"):
        raise AnswerError("squeue: a row of the listing has no job id")
    texts, numbers, word = columns.texts, columns.numbers, columns.states[state]
    in_array = task != b"N/A"
    waiting_tasks = texts[task] if in_array and word in WAITING and not task.isdigit() else ""
    return Job(
        cluster,
        number,
        numbers[array_id] if in_array else None,
        numbers[task] if in_array and not waiting_tasks else None,
        waiting_tasks,
        numbers[het_id],
        numbers[het_offset],
        columns.users[uid + b" " + user],
        texts[account],
        texts[partition],
        texts[qos],
        word,
        numbers[nodes] or 0,
        numbers[cpus] or 0,
        columns.gpus[tres],
        wire.number(decoded(submit)) or 0,
        numbers[start] or 0,
        (numbers[end] or 0) if _has_ended(word) else 0,
        columns.reasons[reason],
        texts[node_list],
        decoded(name),
        texts[admin_comment],
    )


def _has_ended(word: str) -> bool:
    """While a job waits or runs its end is an expectation; nobody may take it for evidence."""
    return word in ENDED or word in ("COMPLETING", "REQUEUED")


class _JsonJob(msgspec.Struct):
    """The fields of `squeue --json` that make a Job; all else is skipped while decoding."""

    job_id: Any = None
    array_job_id: Any = None
    array_task_id: Any = None
    array_task_string: Any = None
    het_job_id: Any = None
    het_job_offset: Any = None
    user_name: Any = None
    user_id: Any = None
    account: Any = None
    partition: Any = None
    qos: Any = None
    job_state: Any = None
    node_count: Any = None
    cpus: Any = None
    tres_alloc_str: Any = None
    tres_req_str: Any = None
    submit_time: Any = None
    start_time: Any = None
    end_time: Any = None
    state_reason: Any = None
    nodes: Any = None
    name: Any = None
    admin_comment: Any = None
    cluster: Any = None


def parse_listing_json(answer: bytes, cluster: str) -> tuple[Job, ...]:
    """The same entries from `squeue --json`. Raise AnswerError unless the answer is whole."""
    whole = document.decode(answer, "squeue")
    records = document.records(whole.jobs, _JsonJob, "squeue")
    told = document.head_cluster(whole.meta)
    own = wire.own_cluster(told, {wire.name(r.cluster) for r in records}, cluster)
    jobs: list[Job] = []
    for record in records:
        if record.cluster in (None, "", own):
            jobs += document.unless_malformed("squeue", record.job_id, _job_of_json, record, cluster)
    return tuple(_merge_waiting_tasks(jobs))


def _job_of_json(record: _JsonJob, cluster: str) -> Job:
    word = wire.state_word(record.job_state)
    array_id = wire.number(record.array_job_id) or None
    waiting = wire.text(record.array_task_string) if array_id and word in WAITING else ""
    task = wire.number(waiting or record.array_task_id) if array_id else None
    het_id = wire.number(record.het_job_id) or None
    tres = wire.text(record.tres_alloc_str) or wire.text(record.tres_req_str)
    return Job(
        cluster,
        wire.job_id(record.job_id),
        array_id,
        task,
        waiting if task is None else "",
        het_id,
        wire.number(record.het_job_offset) if het_id else None,
        wire.user_name(wire.text(record.user_name), record.user_id),
        wire.text(record.account),
        wire.text(record.partition),
        wire.text(record.qos),
        word,
        wire.number(record.node_count) or 0,
        wire.number(record.cpus) or 0,
        wire.gpus_in_tres(wire.tres(tres)),
        wire.number(record.submit_time) or 0,
        wire.number(record.start_time) or 0,
        (wire.number(record.end_time) or 0) if _has_ended(word) else 0,
        wire.reason_word(wire.text(record.state_reason)),
        wire.text(record.nodes),
        wire.name(record.name),
        wire.text(record.admin_comment),
    )


def run_of(job: Job) -> Run:
    """A run that is known from the listing alone: its hosts and counts, no cores, no devices.

    Raise HostlistError.
    """
    return Run(
        key=job.key,
        user=job.user,
        account=job.account,
        partition=job.partition,
        state=job.state,
        allocations=tuple(Allocation(host) for host in hostlist.expand(job.node_list)),
        cpus=job.cpus,
        gpus=job.gpus,
        node_list=job.node_list,
        qos=job.qos,
        name=job.name,
        submit_time=job.submit_time,
        array_job_id=job.array_job_id,
        array_task_id=job.array_task_id,
        het_job_id=job.het_job_id,
        het_offset=job.het_offset,
        seen_alive=False,
        info=wire.info_lines((("JobId", job.job_id), ("JobName", job.name), ("NodeList", job.node_list))),
    )


def _merge_waiting_tasks(jobs: list[Job]) -> Iterator[Job]:
    """As squeue's text does: requeued tasks join the array's waiting entry (same name, same partition)."""
    waiting = {_array_key(job): job for job in jobs if job.array_tasks and job.state in WAITING}
    joined: dict[tuple[int | None, str, str], list[int]] = {}
    for job in jobs:
        if not job.array_tasks and job.array_task_id is not None and job.state in WAITING:
            joined.setdefault(_array_key(job), []).append(job.array_task_id)
    for job in jobs:
        key = _array_key(job)
        if key not in waiting or job.state not in WAITING:
            yield job
        elif job.array_tasks:
            yield _with_tasks(job, joined.get(key, []) if job is waiting[key] else [])


def _array_key(job: Job) -> tuple[int | None, str, str]:
    return job.array_job_id, job.name, job.partition


def _with_tasks(job: Job, tasks: list[int]) -> Job:
    """A merged text has lost the throttle (`%3`), as in squeue."""
    both = sorted({*tasks, *task_numbers(job.array_tasks)})
    return msgspec.structs.replace(job, array_tasks=_fold(both)) if tasks else job


def task_numbers(text: str) -> list[int]:
    """`0,3-7%3`, `0-30:2` → task numbers; text that makes no sense has none."""
    found: list[int] = []
    for part in text.partition("%")[0].split(","):
        span = _TASKS.fullmatch(part)
        if span is not None and int(span[2] or span[1]) < MAX_TASKS:
            found += range(int(span[1]), int(span[2] or span[1]) + 1, int(span[3] or 0) or 1)
    return found


def _fold(numbers: list[int]) -> str:
    """Sorted numbers as `0-2,6-7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
