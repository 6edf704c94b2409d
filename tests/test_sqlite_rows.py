"""What the archive's tables and views show of a run: for people, so whole values are compared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_runs import (
    START,
    change_runs,
    make_archive,
    make_ending,
    make_start,
    query,
    query_row,
    start_runs,
    stop_runs,
)

from backends.base import Change, KnownRun, Outcome, Start
from backends.sqlite_archive import SqliteArchive
from model import Allocation, Device, Ending, Placement, Resource, RunKey

KEY = RunKey("noctua", 4711, START)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def archive(path: Path) -> Iterator[SqliteArchive]:
    archive = make_archive(path)
    yield archive
    archive.close()


def local_text(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def test_the_view_shows_everything_of_an_ended_run(archive: SqliteArchive, path: Path) -> None:
    fields: dict[str, Any] = {"qos": "normal", "name": "train", "script": "#!/bin/sh\n", "environment": "A=1"}
    fields |= {"submit_time": START - 5, "time_limit_s": 3600, "memory_mb": 1024}
    fields |= {"array_job_id": 4700, "array_task_id": 11, "het_job_id": 4710, "het_offset": 1}
    start = make_start(**fields)
    start_runs(archive, start)
    stop_runs(archive, make_ending(start, "OUT_OF_MEMORY"))
    assert query_row(path, "runs") == {
        **{"cluster": "noctua", "job_id": 4711, "array_job_id": 4700, "array_task_id": 11},
        **{"het_job_id": 4710, "het_offset": 1, "user": "ada", "account": "physics", "partition": "gpu"},
        **{"qos": "normal", "name": "train", "state": "out_of_memory", "submit_time": START - 5},
        **{"start_time": START, "end_time": START + 60, "duration_s": 60, "num_nodes": 1},
        **{"node_list": "n001", "cpus": 4, "gpus": 2, "num_hwthreads": 4, "num_acc": 2, "smt": 1},
        **{"memory_mb": 1024, "time_limit_s": 3600, "sharing": "multi_user", "seen_alive": 1},
        **{"evidence": "sacct", "started": local_text(START), "ended": local_text(START + 60)},
        "script": "#!/bin/sh\n",
    }
    assert query(path, "SELECT info, environment FROM run") == [("JobId=4711", "A=1")]


def test_what_is_not_told_is_null(archive: SqliteArchive, path: Path) -> None:
    start_runs(archive, make_start())
    empty = [name for name, value in query_row(path, "runs").items() if value is None]
    array = ["array_job_id", "array_task_id", "het_job_id", "het_offset"]
    later = ["submit_time", "end_time", "duration_s", "memory_mb", "time_limit_s", "evidence", "ended"]
    assert empty == [*array, *later, "script"]


def test_nodes_hold_slurms_numbers_beside_the_mapped_ids(archive: SqliteArchive, path: Path) -> None:
    start_runs(archive, make_start())
    assert query_row(path, "run_nodes") == {
        **{"cluster": "noctua", "job_id": 4711, "start_time": START, "position": 0, "host": "n001"},
        **{"cpus": 4, "cores": "0-1", "hwthreads": "0-1,64-65", "devices": "gpu:a100:2(IDX:0,3)"},
        "accelerators": "00000000:03:00.0,00000000:C3:00.0",
    }


def test_untold_ids_are_null_and_known_to_be_none_is_empty(archive: SqliteArchive, path: Path) -> None:
    devices = (Device("gpu", "", 4, None), Device("fpga", "u280", 1, (2,)))
    allocations = (Allocation("n002", 8, None, devices), Allocation("n001", None, ()))
    placed = (Resource("n002", None, ()), Resource("n001", (), ()), Resource("n003", (7,), ()))
    start = Start(make_start(allocations=allocations).run, Placement(placed, 8, 0, 0), {})
    start_runs(archive, start)
    assert query(path, "SELECT host, cpus, cores, hwthreads, devices, accelerators FROM run_nodes") == [
        ("n002", 8, None, None, "gpu:4,fpga:u280:1(IDX:2)", ""),
        ("n001", None, "", "", None, ""),
        ("n003", None, None, "7", None, ""),
    ]


def test_every_change_that_was_seen_stands_there_with_its_time(archive: SqliteArchive, path: Path) -> None:
    start = make_start()
    start_runs(archive, start)
    change_runs(archive, Change(KEY, "suspended"), now=START + 10)
    change_runs(archive, Change(KEY, "running"), now=START + 20)
    bigger = make_start(node_list="n[001-002]", cpus=8)
    change_runs(archive, Change(KEY, "running", bigger), now=START + 30)
    stop_runs(archive, make_ending(start, "TIMEOUT"))
    assert query(path, "SELECT time, event, state, old_node_list, old_cpus FROM run_changes") == [
        (START, "started", "running", None, None),
        (START + 10, "suspended", "suspended", None, None),
        (START + 20, "resumed", "running", None, None),
        (START + 30, "resized", "running", "n001", 4),
        (START + 60, "ended", "timeout", None, None),
    ]
    assert query(path, "SELECT at FROM run_changes")[1] == (local_text(START + 10),)


def test_a_resized_run_has_its_new_nodes_and_keeps_its_script(archive: SqliteArchive, path: Path) -> None:
    start_runs(archive, make_start(script="sleep 1", environment="A=1"))
    allocations = tuple(Allocation(host, 4, (0, 1)) for host in ("n005", "n006"))
    placed = tuple(Resource(host, (0, 1), ()) for host in ("n005", "n006"))
    run = make_start(node_list="n[005-006]", cpus=8, gpus=0, allocations=allocations).run
    resize = Change(KEY, "running", Start(run, Placement(placed, 4, 0, 0), {}))
    assert change_runs(archive, resize) == [Outcome(KEY, "done")]
    assert archive.read_running() == {KEY: KnownRun("running", "n[005-006]", 8)}
    held = "SELECT host, cores, hwthreads, devices, accelerators FROM run_nodes"
    assert query(path, held) == [("n005", "0-1", "0-1", None, ""), ("n006", "0-1", "0-1", None, "")]
    assert query(path, "SELECT num_nodes, num_hwthreads, num_acc, gpus, script FROM runs") == [
        (2, 4, 0, 0, "sleep 1")
    ]
    assert query(path, "SELECT environment FROM run") == [("A=1",)]


def test_equal_scripts_are_stored_once(archive: SqliteArchive, path: Path) -> None:
    scripts = ["#!/bin/sh\n", "#!/bin/bash\n", "#!/bin/sh\n", "", None]
    start_runs(
        archive, *(make_start(job_id, script=script) for job_id, script in enumerate(scripts, start=1))
    )
    assert query(path, "SELECT job_id, script FROM runs") == list(enumerate(scripts, start=1))
    assert query(path, "SELECT count(*) FROM script") == [(3,)]


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("\udcff\ud800x", "\ufffd\ufffdx"),
        ("\x1b[31m\r\n\t\x7f", "\x1b[31m\r\n\t\x7f"),
        ("'); DROP TABLE run; --", "'); DROP TABLE run; --"),
        ("ä" * 1_000_000, "ä" * 1_000_000),
    ],
    ids=["nul", "surrogates", "controls", "sql", "megabyte"],
)
def test_hostile_text_is_stored(archive: SqliteArchive, path: Path, given_text: str, stored: str) -> None:
    names = ("user", "account", "partition", "qos", "name", "node_list", "info", "script", "environment")
    fields: dict[str, Any] = dict.fromkeys(names, given_text)
    device = Device(given_text, given_text, 1, None)
    placed = Placement((Resource(given_text, None, (given_text,)),), 0, 1, 0)
    start = make_start(allocations=(Allocation(given_text, devices=(device,)),), **fields)
    assert start_runs(archive, Start(start.run, placed, {})) == [Outcome(KEY, "done")]
    assert archive.read_running() == {KEY: KnownRun("running", stored, 4)}
    assert stop_runs(archive, Ending(KEY, given_text, START, given_text)) == [Outcome(KEY, "done")]
    assert query(path, "SELECT name, info, environment, evidence, state FROM run") == [
        (stored, stored, stored, stored, "failed")
    ]
    assert query(path, "SELECT host, devices, accelerators FROM run_nodes") == [
        (stored, f"{stored}:{stored}:1", stored)
    ]
    assert query(path, "SELECT script FROM runs") == [(stored,)]
