"""Runs as Slurm's accounting knows them: sacct's text → Accounted records. Parses only.

A record of accounting is a piece of a run: a resized job closes one as RESIZING and opens the next.
`whole_runs` joins them; what to stop is decided in plan.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from model import Allocation, Run, RunKey
from slurm import document, hostlist, wire
from slurm.document import AnswerError

# AdminComment may hold newlines, so it must not stand last; neither may JobName.
FIELDS = (
    "JobID",
    "JobIDRaw",
    "Cluster",
    "User",
    "UID",
    "Account",
    "Partition",
    "QOS",
    "State",
    "AllocCPUS",
    "AllocTRES",
    "Submit",
    "Start",
    "End",
    "TimelimitRaw",
    "JobName",
    "AdminComment",
    "NodeList",
)
ENDED_STATES = "CD,F,CA,TO,NF,PR,BF,DL,OOM,RQ"


class Accounted(msgspec.Struct, frozen=True):
    """A run or a piece of one, read from accounting."""

    run: Run
    end_time: int  # 0: it has not ended
    opted_out_by: str = ""  # its admin comment

    @property
    def key(self) -> RunKey:
        return self.run.key

    @property
    def has_ended(self) -> bool:
        """With an end, any word but these is an ending; an unknown one too (it is stored as failed)."""
        return self.end_time > 0 and self.run.state not in ("RUNNING", "SUSPENDED", "PENDING", "RESIZING")


def window_arguments(separator: str, since: int, until: int) -> list[str]:
    """Runs that ended within [since, until]. -S and -E both: without -E, -s means an instant."""
    span = ["-S", f"uts{since}", "-E", f"uts{until}"]
    return [*_common(separator), "-s", ENDED_STATES, *span]


def ids_arguments(separator: str, ids: Iterable[int], since: int, until: int) -> list[str]:
    """All runs of these ids that ran after `since`: ids wrap, and an old owner's run must not answer."""
    jobs = ",".join(str(job_id) for job_id in ids)
    return [*_common(separator), "-j", jobs, "-S", f"uts{since}", "-E", f"uts{until}"]


def _common(separator: str) -> list[str]:
    columns = ",".join(FIELDS)
    return ["-a", "-X", "-D", "--local", "-n", "-P", f"--delimiter={separator}", "-o", columns]


def parse_text(answer: bytes, separator: str, cluster: str) -> tuple[Accounted, ...]:
    """All records that ran. Raise AnswerError unless each row is whole."""
    text = answer.decode("utf-8", "replace")
    if not text:
        return ()
    if not text.endswith("\n"):
        raise AnswerError("sacct: the answer ends in the middle of a row")
    rows = list(_rows(text[:-1].split(separator)))
    own = wire.own_cluster("", {row[2] for row in rows}, cluster)
    found: list[Accounted] = []
    for row in rows:
        if row[2] in ("", own):
            found += if_it_ran("sacct", row[1], _of_text, row, cluster)
    return tuple(found)


def _rows(tokens: list[str]) -> Iterator[list[str]]:
    """No separator follows a row's last field, so its text and the next row's first share a token."""
    wanted = len(FIELDS) - 1
    if len(tokens) % wanted != 1 or len(tokens) == 1:
        raise AnswerError("sacct: a row of the answer lacks fields")
    first = tokens[0]
    for at in range(1, len(tokens), wanted):
        last, _, following = tokens[at + wanted - 1].partition("\n")
        yield [first, *tokens[at : at + wanted - 1], last]
        first = following
    if first:
        raise AnswerError("sacct: a line of the answer is no row")


def if_it_ran(command: str, name: Any, parse: Any, *arguments: Any) -> list[Accounted]:
    found: list[Accounted | None] = document.unless_malformed(command, name, parse, *arguments)
    return [record for record in found if record is not None]


def _of_text(row: list[str], cluster: str) -> Accounted | None:
    (job, raw, _, user, uid, account, partition, qos, state, cpus, tres) = row[:11]
    (submit, start, end, limit, name, admin_comment, nodes) = row[11:]
    array_id, task = _parts_of(job, "_")
    het_id, offset = _parts_of(job, "+")
    return record_of(
        RunKey(cluster, wire.job_id(raw), wire.number(start) or 0),
        Plain(
            user=wire.user_name(wire.text(user), uid),
            account=wire.text(account),
            partition=wire.text(partition),
            qos=wire.text(qos),
            state=accounting_word(state),
            cpus=wire.number(cpus) or 0,
            tres=wire.tres(tres),
            submit_time=wire.number(submit) or 0,
            end_time=wire.number(end) or 0,
            limit_min=wire.number(limit),
            name=name,
            admin_comment=admin_comment,
            node_list=wire.text(nodes),
            array_job_id=array_id,
            array_task_id=task,
            het_job_id=het_id,
            het_offset=offset,
        ),
    )


def accounting_word(value: Any) -> str:
    """`["PENDING","REQUEUED"]` (from 23.11) is REQUEUED, as in text; RESIZING stays, it closes a piece."""
    found = wire.words(value)
    for word in ("REQUEUED", "RESIZING"):
        if word in found:
            return word
    return wire.state_word(value)


def _parts_of(job: str, mark: str) -> tuple[int | None, int | None]:
    """`9_3` is task 3 of array 9, `10+1` component 1 of job 10."""
    first, found, second = job.partition(mark)
    if not found:
        return None, None
    return wire.number(first), wire.number(second)


class Plain(msgspec.Struct):
    """A record's fields, freed of their release's shape."""

    user: str
    account: str
    partition: str
    qos: str
    state: str
    cpus: int
    tres: dict[str, str]
    submit_time: int
    end_time: int
    limit_min: int | None
    name: str
    admin_comment: str
    node_list: str
    array_job_id: int | None
    array_task_id: int | None
    het_job_id: int | None
    het_offset: int | None


def record_of(key: RunKey, plain: Plain) -> Accounted | None:
    """None: it never ran, so it is no run. Its hosts and counts are known, its cores and devices are not.

    22.05 loses the start of a run that is requeued moments after it began: that record has start 0.
    """
    if not plain.node_list or (key.start_time <= 0 and plain.state != "REQUEUED"):
        return None
    hosts = hostlist.expand(plain.node_list)
    run = Run(
        key=key,
        user=plain.user,
        account=plain.account,
        partition=plain.partition,
        state=plain.state,
        allocations=tuple(Allocation(host) for host in hosts),
        cpus=plain.cpus,
        gpus=wire.gpus_in_tres(plain.tres),
        node_list=plain.node_list,
        qos=plain.qos,
        name=plain.name,
        submit_time=plain.submit_time,
        time_limit_s=plain.limit_min * 60 if plain.limit_min else None,
        memory_mb=wire.memory_mb(plain.tres.get("mem", "")),
        array_job_id=plain.array_job_id,
        array_task_id=plain.array_task_id,
        het_job_id=plain.het_job_id,
        het_offset=plain.het_offset,
        seen_alive=False,
        info=_info(key, plain),
    )
    return Accounted(run, plain.end_time, plain.admin_comment)


def _info(key: RunKey, plain: Plain) -> str:
    return wire.info_lines(
        (
            ("JobId", key.job_id),
            ("JobName", plain.name),
            ("ArrayJobId", plain.array_job_id),
            ("ArrayTaskId", plain.array_task_id),
            ("HetJobId", plain.het_job_id),
            ("HetJobOffset", plain.het_offset),
            ("UserId", plain.user),
            ("Account", plain.account),
            ("QOS", plain.qos),
            ("Partition", plain.partition),
            ("SubmitTime", plain.submit_time),
            ("StartTime", key.start_time),
            ("TimeLimitMinutes", plain.limit_min or "UNLIMITED"),
            ("NodeList", plain.node_list),
            ("NumCPUs", plain.cpus),
            ("TRES", ",".join(f"{name}={count}" for name, count in plain.tres.items())),
        )
    )


def whole_runs(records: Iterable[Accounted]) -> tuple[Accounted, ...]:
    """Pieces that a resize closed joined with what follows them: one run with the first start.

    The nodes are those of the first piece: a ledger was, or will be, told of the run's start.
    """
    ordered = sorted(set(records), key=lambda r: (r.key.job_id, r.run.submit_time, r.key.start_time))
    found: list[Accounted] = []
    for _, pieces in groupby(ordered, key=lambda r: (r.key.job_id, r.run.submit_time)):
        found += _join(list(pieces))
    return tuple(found)


def _join(pieces: list[Accounted]) -> Iterator[Accounted]:
    open_piece: Accounted | None = None
    for piece in pieces:
        if open_piece is not None and piece.key.start_time == open_piece.end_time:
            run = msgspec.structs.replace(open_piece.run, state=piece.run.state)
            piece = Accounted(run, piece.end_time, piece.opted_out_by or open_piece.opted_out_by)
        if piece.run.state == "RESIZING":
            open_piece = piece
        else:
            yield piece
            open_piece = None
