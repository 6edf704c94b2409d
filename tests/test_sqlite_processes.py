"""The job archive among processes: killed at any point, read beside a writer, written by several."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from sqlite_runs import make_archive, open_and_close_often, query, read_dump, spawn, write_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def confirmed(path: Path, lines: list[str]) -> bool:
    """Does everything that was said to be done stand in the file?"""
    statement = "SELECT event || ' ' || job_id FROM run_changes"
    return {line.strip() for line in lines} <= {row[0] for row in query(path, statement)}


def test_a_pass_killed_anywhere_loses_no_outcome_and_no_half_run_and_can_be_repeated(path: Path) -> None:
    reference = path.with_name("whole.db")
    with spawn(write_all, reference, "noctua", 1500) as whole:
        whole.communicate()
    for survived in (1, 2, 499, 501, 1400, 1502, 1990, 2001, 2700):
        with spawn(write_all, path, "noctua", 1500) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(survived)]
            process.kill()
            lines += [line for line in process.stdout if line.endswith("\n")]
        make_archive(path).read_running()
        if path.exists():
            assert query(path, "PRAGMA integrity_check") == [("ok",)]
            assert query(path, "PRAGMA foreign_key_check") == []
        if survived > 1:
            assert confirmed(path, lines[1:])
            runs, nodes, starts = query(
                path,
                "SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM node),"
                " (SELECT count(*) FROM change WHERE event = 'started')",
            )[0]
            assert (runs, nodes, starts) == (runs, runs, runs)
            assert runs % 500 == 0
    with spawn(write_all, path, "noctua", 1500) as process:
        process.communicate()
    assert process.returncode == 0
    assert read_dump(path) == read_dump(reference)


def test_a_pass_killed_while_it_creates_the_file_can_be_repeated(tmp_path: Path) -> None:
    for turn in range(12):
        path = tmp_path / f"{turn}.db"
        with spawn(write_all, path, "noctua", 1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(turn * 0.001)
            process.kill()
        assert len(make_archive(path).read_running()) in (0, 1)
        with spawn(write_all, path, "noctua", 1) as process:
            process.communicate()
        assert process.returncode == 0
        assert query(path, "SELECT event FROM run_changes") == [("started",), ("suspended",), ("ended",)]


def test_a_reader_beside_a_writer_sees_whole_batches(path: Path) -> None:
    counts = [0]
    with spawn(write_all, path, "noctua", 3000, subprocess.DEVNULL) as process:
        while process.poll() is None:
            counts.append(len(make_archive(path).read_running()))
    starting = counts[: counts.index(max(counts)) + 1]
    assert starting == sorted(starting)
    assert set(starting) <= {0, 500, 1000, 1500, 2000, 2500, 3000}
    assert len(make_archive(path).read_running()) == 1500


def test_a_reader_beside_writers_that_come_and_go_never_fails_or_sees_less(path: Path) -> None:
    counts = [0]
    with spawn(open_and_close_often, path, "noctua", 150, subprocess.DEVNULL) as process:
        while process.poll() is None:
            counts.append(len(make_archive(path).read_running()))
    assert counts == sorted(counts)
    assert len(make_archive(path).read_running()) == 150
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_several_processes_may_create_and_fill_the_file_at_once(path: Path) -> None:
    clusters = ["noctua", "otus", "hilbert"]
    processes = [spawn(write_all, path, cluster, 600, subprocess.DEVNULL) for cluster in clusters]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert [len(make_archive(path, cluster).read_running()) for cluster in clusters] == [300, 300, 300]
