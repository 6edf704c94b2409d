"""`sacct --json` → the same Accounted records as its text gives, for recordings. Parses only."""

from __future__ import annotations

from typing import Any

import msgspec

from model import RunKey
from slurm import document, wire
from slurm.accounting import Accounted, Plain, accounting_word, if_it_ran, record_of


class _JsonRecord(msgspec.Struct):
    """The fields of `sacct --json` that make a record; all else is skipped while decoding."""

    job_id: Any = None
    cluster: Any = None
    user: Any = None
    account: Any = None
    partition: Any = None
    qos: Any = None
    state: Any = None
    time: Any = None
    tres: Any = None
    array: Any = None
    het: Any = None
    name: Any = None
    comment: Any = None
    nodes: Any = None
    required: Any = None


def parse_json(answer: bytes, cluster: str) -> tuple[Accounted, ...]:
    """All records that ran. Raise AnswerError unless the answer is whole."""
    whole = document.decode(answer, "sacct")
    records = document.records(whole.jobs, _JsonRecord, "sacct")
    own = wire.own_cluster(
        document.head_cluster(whole.meta), {wire.name(r.cluster) for r in records}, cluster
    )
    found: list[Accounted] = []
    for record in records:
        if record.cluster in (None, "", own):
            found += if_it_ran("sacct", record.job_id, _of_json, record, cluster)
    return tuple(found)


def _of_json(record: _JsonRecord, cluster: str) -> Accounted | None:
    times = {
        name: wire.number(value) or 0 for name, value in record.time.items() if not isinstance(value, dict)
    }
    tres = _tres_of_json((record.tres or {}).get("allocated") or [])
    array_id = wire.number((record.array or {}).get("job_id")) or None
    het_id = wire.number((record.het or {}).get("job_id")) or None
    word = accounting_word((record.state or {}).get("current"))
    return record_of(
        RunKey(cluster, wire.job_id(record.job_id), _start(times)),
        Plain(
            user=wire.text(record.user),
            account=wire.text(record.account),
            partition=wire.text(record.partition),
            qos=wire.text(record.qos),
            state=word,
            cpus=wire.number(tres.get("cpu")) or 0,
            tres=tres,
            submit_time=times.get("submission", 0),
            end_time=times.get("end", 0),
            limit_min=wire.number((record.time or {}).get("limit")),
            name=wire.name(record.name),
            admin_comment=wire.text((record.comment or {}).get("administrator")),
            node_list=wire.text(record.nodes),
            array_job_id=array_id,
            array_task_id=wire.number((record.array or {}).get("task_id")) if array_id else None,
            het_job_id=het_id,
            het_offset=wire.number((record.het or {}).get("job_offset")) if het_id else None,
        ),
    )


def _start(times: dict[str, int]) -> int:
    """21.08's JSON gives the eligible time as the start; end − elapsed − suspended tells it."""
    start, end = times.get("start", 0), times.get("end", 0)
    if start <= 0 or end <= 0:
        return start
    return max(start, end - times.get("elapsed", 0) - times.get("suspended", 0))


def _tres_of_json(entries: list[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        count = wire.number(entry.get("count"))
        if count is not None:
            name = f"{entry['type']}/{entry['name']}" if entry.get("name") else entry["type"]
            found[name] = f"{count}M" if entry["type"] == "mem" else str(count)
    return found
