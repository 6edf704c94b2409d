"""Runs for the job archive, a process that writes them, and the archive's content as tests compare it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backends.base import Change, Deadline, Facts, Outcome, Start, TargetError
from backends.sqlite_archive import SqliteArchive, SqliteSection
from model import Allocation, Device, Ending, Placement, Resource, Run, RunKey

START = 1_700_000_000
FACTS = Facts(version="1")


def make_archive(path: Path, cluster: str = "noctua", timeout_s: float = 10.0) -> SqliteArchive:
    return SqliteArchive(SqliteSection(path=path, timeout_s=timeout_s), cluster)


def make_start(job_id: int = 4711, start_time: int = START, cluster: str = "noctua", **fields: Any) -> Start:
    """A run on one node with two cores of two threads and two GPUs; `fields` replaces what the run has."""
    device = Device(name="gpu", type="a100", count=2, indexes=(0, 3))
    run = Run(
        key=RunKey(cluster, job_id, start_time),
        user="ada",
        account="physics",
        partition="gpu",
        state="RUNNING",
        allocations=(Allocation(host="n001", cpus=4, cores=(0, 1), devices=(device,)),),
        cpus=4,
        gpus=2,
        node_list="n001",
        info=f"JobId={job_id}",
    )
    accelerators = ("00000000:03:00.0", "00000000:C3:00.0")
    resource = Resource(host="n001", hwthreads=(0, 64, 1, 65), accelerators=accelerators)
    placement = Placement(resources=(resource,), num_hwthreads=4, num_acc=2, smt=1)
    return Start(run=msgspec.structs.replace(run, **fields), placement=placement, body={})


def make_ending(start: Start, state: str = "COMPLETED", after_s: int = 60, evidence: str = "sacct") -> Ending:
    return Ending(start.run.key, state, start.run.key.start_time + after_s, evidence)


def start_runs(archive: SqliteArchive, *starts: Start) -> list[Outcome]:
    return list(archive.start(starts, Deadline(60)))


def stop_runs(archive: SqliteArchive, *endings: Ending) -> list[Outcome]:
    return list(archive.stop(endings, FACTS, Deadline(60)))


def change_runs(archive: SqliteArchive, *changes: Change, now: int = START + 30) -> list[Outcome]:
    return list(archive.change(changes, now, Deadline(60)))


def write_run(path: Path) -> None:
    archive = make_archive(path)
    start_runs(archive, make_start())
    archive.close()


def read_fault(path: Path) -> str:
    with pytest.raises(TargetError) as fault:
        make_archive(path, timeout_s=0).read_running()
    return str(fault.value)


def write_fault(path: Path) -> str:
    archive = make_archive(path, timeout_s=0)
    with pytest.raises(TargetError) as fault:
        start_runs(archive, make_start(1))
    archive.close()
    return str(fault.value)


def query(path: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(statement, values).fetchall()


def query_row(path: Path, view: str) -> dict[str, Any]:
    """The only row of a view, by column."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        (row,) = db.execute(f"SELECT * FROM {view}").fetchall()  # noqa: S608
        return dict(row)


def read_dump(path: Path) -> list[str]:
    """All that stands in the file."""
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def read_folder(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def verdicts(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.verdict for outcome in outcomes]


def write_all(path: Path, cluster: str, count: int) -> None:
    """Start all runs, suspend every third, end every second, and say each outcome as it comes."""
    archive = make_archive(path, cluster)
    starts = [make_start(job_id, cluster=cluster, script="sleep 1") for job_id in range(1, count + 1)]
    for outcome in archive.start(starts, Deadline(60)):
        print("started", outcome.key.job_id, flush=True)  # noqa: T201
    for outcome in archive.change(
        [Change(start.run.key, "suspended") for start in starts[::3]], START, Deadline(60)
    ):
        print("suspended", outcome.key.job_id, flush=True)  # noqa: T201
    for outcome in archive.stop([make_ending(start) for start in starts[::2]], FACTS, Deadline(60)):
        print("ended", outcome.key.job_id, flush=True)  # noqa: T201
    archive.close()


def open_and_close_often(path: Path, cluster: str, count: int) -> None:
    """A writer's whole life for every single run."""
    for job_id in range(1, count + 1):
        archive = make_archive(path, cluster)
        start_runs(archive, make_start(job_id, cluster=cluster))
        archive.close()


def spawn(
    call: Callable[[Path, str, int], None], path: Path, cluster: str, count: int, out: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """A process of its own that makes the call. It says `ready` before."""
    code = f"import sqlite_runs as s, pathlib; print('ready', flush=True); s.{call.__name__}"
    arguments = f"(pathlib.Path({str(path)!r}), {cluster!r}, {count})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code + arguments]
    return subprocess.Popen(command, stdout=out, env=environment, text=True)
