"""How a run becomes rows of the job archive: its start, its changes, its ending.

Each function does one run's part inside the caller's transaction, and doing it again changes nothing.
What the columns mean is said in `sqlite_schema`.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from backends.base import Change, Outcome, Start
from model import Allocation, Ending, Run, RunKey, ledger_state

# NUL ends a text in SQLite's functions and its shell, a surrogate has no UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# What a change need not bring along.
_LASTING = frozenset({"script_id", "environment"})

_INSERT_NODE = (
    "INSERT INTO node (run_id, position, host, cpus, cores, hwthreads, accelerators)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_DEVICE = (
    "INSERT INTO device (run_id, position, ordinal, name, type, count, indexes) VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class Held(NamedTuple):
    """What the archive has of a run, as far as a change depends on it."""

    id: int
    state: str
    end_time: int | None
    node_list: str
    cpus: int
    gpus: int


def find(db: sqlite3.Connection, key: RunKey) -> Held | None:
    try:
        row = db.execute(
            "SELECT id, state, end_time, node_list, cpus, gpus FROM run"
            " WHERE cluster = ? AND job_id = ? AND start_time = ?",
            (storable(key.cluster), key.job_id, key.start_time),
        ).fetchone()
    except OverflowError:  # more than 64 bits: no file holds it
        return None
    return Held(*row) if row else None


def store_start(start: Start, db: sqlite3.Connection) -> Outcome:
    key, state = start.run.key, state_at_start(start.run)
    if find(db, key) is not None:
        return Outcome(key, "done", "stood there already")
    identity = {"cluster": key.cluster, "job_id": key.job_id, "start_time": key.start_time, "state": state}
    row = _storable_row(identity | _render_row(start)) | {"script_id": _store_script(db, start.run.script)}
    names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    db.execute(f"INSERT INTO run ({names}) VALUES ({places})", row)  # noqa: S608 names of ours
    run_id: int = db.execute("SELECT last_insert_rowid()").fetchone()[0]
    _store_nodes(db, run_id, start)
    _store_event(db, run_id, key.start_time, "started", state)
    return Outcome(key, "done")


def store_change(change: Change, now: int, db: sqlite3.Connection) -> Outcome:
    held = find(db, change.key)
    if held is None or held.end_time is not None:
        return Outcome(change.key, "refused", "has ended there" if held else "is not in the archive")
    if change.start is not None:
        _store_resources(db, held, change.start, now)
    if change.state != held.state:
        db.execute("UPDATE run SET state = ? WHERE id = ?", (change.state, held.id))
        event = "resumed" if change.state == "running" else change.state
        _store_event(db, held.id, now, event, change.state)
    return Outcome(change.key, "done")


def store_ending(ending: Ending, db: sqlite3.Connection) -> Outcome:
    held = find(db, ending.key)
    if held is None:
        return Outcome(ending.key, "refused", "is not in the archive")
    if held.end_time is not None:
        return Outcome(ending.key, "done", "had ended already")
    state, end_time = ledger_state(ending.state), max(ending.end_time, ending.key.start_time)
    db.execute(
        "UPDATE run SET state = ?, end_time = ?, evidence = ? WHERE id = ?",
        (state, end_time, storable(ending.evidence), held.id),
    )
    _store_event(db, held.id, end_time, "ended", state)
    return Outcome(ending.key, "done")


def _store_resources(db: sqlite3.Connection, held: Held, start: Start, now: int) -> None:
    row = _storable_row(_render_row(start)) | {"script_id": _store_script(db, start.run.script)}
    # A script or an environment that was not read again is still the run's.
    row = {name: value for name, value in row.items() if value is not None or name not in _LASTING}
    settings = ", ".join(f"{name} = :{name}" for name in row)
    db.execute(f"UPDATE run SET {settings} WHERE id = :id", row | {"id": held.id})  # noqa: S608 names of ours
    db.execute("DELETE FROM node WHERE run_id = ?", (held.id,))
    _store_nodes(db, held.id, start)
    if (row["node_list"], row["cpus"], row["gpus"]) != (held.node_list, held.cpus, held.gpus):
        _store_event(db, held.id, now, "resized", held.state, (held.node_list, held.cpus))


def _store_script(db: sqlite3.Connection, script: str | None) -> int | None:
    if script is None:
        return None
    content = storable(script)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    db.execute("INSERT OR IGNORE INTO script (sha256, content) VALUES (?, ?)", (sha256, content))
    script_id: int = db.execute("SELECT id FROM script WHERE sha256 = ?", (sha256,)).fetchone()[0]
    return script_id


def _store_nodes(db: sqlite3.Connection, run_id: int, start: Start) -> None:
    """The nodes that were placed, with what Slurm says of them."""
    allocations = {allocation.host: allocation for allocation in start.run.allocations}
    for position, resource in enumerate(start.placement.resources):
        held = allocations.get(resource.host, Allocation(resource.host))
        node = (storable(held.host), held.cpus, _render_ranges(held.cores))
        mapped = (_render_ranges(resource.hwthreads), storable(",".join(resource.accelerators)))
        db.execute(_INSERT_NODE, (run_id, position, *node, *mapped))
        for ordinal, device in enumerate(held.devices):
            kind = (storable(device.name), storable(device.type))
            counted = (device.count, _render_ranges(device.indexes))
            db.execute(_INSERT_DEVICE, (run_id, position, ordinal, *kind, *counted))


def _store_event(
    db: sqlite3.Connection, run_id: int, time: int, event: str, state: str, old: tuple[str, int] | None = None
) -> None:
    db.execute(
        "INSERT INTO change (run_id, time, event, state, old_node_list, old_cpus) VALUES (?, ?, ?, ?, ?, ?)",
        (run_id, time, event, state, *(old or (None, None))),
    )


def state_at_start(run: Run) -> str:
    """Until its ending is stored a run has not ended, also one that accounting lists as completed."""
    return "suspended" if ledger_state(run.state) == "suspended" else "running"


def _render_row(start: Start) -> dict[str, Any]:
    run, placement = start.run, start.placement
    return {
        "array_job_id": run.array_job_id,
        "array_task_id": run.array_task_id,
        "het_job_id": run.het_job_id,
        "het_offset": run.het_offset,
        "user": run.user,
        "account": run.account,
        "partition": run.partition,
        "qos": run.qos,
        "name": run.name,
        "submit_time": run.submit_time or None,
        "time_limit_s": run.time_limit_s,
        "num_nodes": len(placement.resources),
        "node_list": run.node_list,
        "cpus": run.cpus,
        "gpus": run.gpus,
        "num_hwthreads": placement.num_hwthreads,
        "num_acc": placement.num_acc,
        "smt": placement.smt,
        "sharing": run.sharing,
        "memory_mb": run.memory_mb or None,
        "seen_alive": run.seen_alive,
        "info": run.info,
        "environment": run.environment,
    }


def _storable_row(row: dict[str, Any]) -> dict[str, Any]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in row.items()}


def storable(text: str) -> str:
    plain = text.isascii() and "\0" not in text  # as nearly all is, megabytes of scripts too
    return text if plain else _UNSTORABLE.sub("\ufffd", text)


@lru_cache(maxsize=4096)  # a big run holds the same cores on each of its nodes
def _render_ranges(numbers: tuple[int, ...] | None) -> str | None:
    """As Slurm and the kernel write sets of numbers: 0-15,32-47."""
    if numbers is None:
        return None
    ordered = enumerate(sorted(set(numbers)))
    runs = [[number for _, number in group] for _, group in groupby(ordered, lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
