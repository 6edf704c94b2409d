"""What is wrong with the job archive's file: said with path and remedy, and nothing is lost or spoilt."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_runs import (
    START,
    change_runs,
    make_archive,
    make_start,
    query,
    read_fault,
    read_folder,
    start_runs,
    write_fault,
    write_run,
)

from backends import sqlite_file
from backends.base import Change, Deadline, Finding, KnownRun, TargetError
from model import RunKey

KEY = RunKey("noctua", 4711, START)
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def test_a_missing_folder_is_a_fault_that_tells_how_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / "srv" / "jobs.db"
    expected = (
        f"{path}: there is no folder {tmp_path}/srv; mount it, or create it with"
        f" `install -d -m 0700 {tmp_path}/srv`"
    )
    assert read_fault(path) == write_fault(path) == expected
    assert list(make_archive(path).check()) == [Finding(False, expected)]
    assert read_folder(tmp_path) == {}


def test_what_is_no_file_is_a_fault(path: Path, tmp_path: Path) -> None:
    assert read_fault(tmp_path) == f"{tmp_path}: is a folder or a device; sqlite.path must name a file"
    os.mkfifo(path)
    assert write_fault(path) == f"{path}: is a folder or a device; sqlite.path must name a file"
    (tmp_path / "file").write_text("")
    assert read_fault(tmp_path / "file" / "jobs.db") == f"{tmp_path}/file/jobs.db: Not a directory"


def make_database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["CREATE TABLE job (id)"], "is another program's database (application id 0x0)"),
        (["PRAGMA journal_mode = WAL", "CREATE TABLE run (id)"], "is another program's database"),
        (["PRAGMA application_id = 7", "PRAGMA user_version = 1"], "(application id 0x7)"),
        (["CREATE TABLE run (id)", "PRAGMA application_id = 7"], "(application id 0x7)"),
        (
            [f"PRAGMA application_id = {0x736C7379}", "PRAGMA user_version = 99", "CREATE TABLE run (id)"],
            "was written by a newer slurm-sync (schema 99, this one knows 1)",
        ),
    ],
)
def test_a_file_that_is_not_ours_is_never_written(path: Path, statements: list[str], reason: str) -> None:
    make_database(path, *statements)
    before = read_folder(path.parent)
    assert reason in read_fault(path)
    assert reason in write_fault(path)
    (finding,) = make_archive(path).check()
    assert (finding.ok, reason in finding.text) == (False, True)
    assert read_folder(path.parent) == before


def test_a_file_that_is_no_database_is_never_written(path: Path) -> None:
    path.write_text("job_id,user\n" * 1000)
    before = read_folder(path.parent)
    expected = f"{path}: file is not a database; move it away, or name another sqlite.path"
    assert read_fault(path) == write_fault(path) == expected
    assert read_folder(path.parent) == before


def test_a_damaged_file_is_a_fault(path: Path) -> None:
    write_run(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    assert read_fault(path).startswith(f"{path}: database disk image is malformed; save what can be saved")


@pytest.mark.parametrize("statements", [[], ["PRAGMA journal_mode = OFF", "PRAGMA journal_mode = WAL"]])
def test_a_file_that_was_only_just_created_is_an_empty_archive(path: Path, statements: list[str]) -> None:
    path.touch()
    make_database(path, *statements)
    assert make_archive(path).read_running() == {}
    write_run(path)
    assert list(make_archive(path).read_running()) == [KEY]


def test_a_restored_file_that_is_no_wal_file_is_read_and_written(path: Path) -> None:
    write_run(path)
    make_database(path, "PRAGMA journal_mode = DELETE")
    assert list(make_archive(path).read_running()) == [KEY]
    archive = make_archive(path)
    start_runs(archive, make_start(1))
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    archive.close()


def test_a_lock_that_is_held_too_long_is_a_fault_of_writing_alone(path: Path) -> None:
    write_run(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert write_fault(path) == (
            f"{path}: database is locked; another process keeps it longer than sqlite.timeout_s"
        )
        assert list(make_archive(path).read_running()) == [KEY]


def test_a_full_disk_loses_whole_batches_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = sqlite_file._prepare

    def prepare_small(db: sqlite3.Connection) -> None:
        prepare(db)
        db.execute("PRAGMA max_page_count = 150")

    starts = [make_start(job_id, script="x" * 200 + str(job_id)) for job_id in range(1, 2001)]
    done = []
    with monkeypatch.context() as patch, pytest.raises(TargetError) as fault:
        patch.setattr(sqlite_file, "_prepare", prepare_small)
        archive = make_archive(path)
        for outcome in archive.start(starts, Deadline(60)):
            done.append(outcome.key)
    archive.close()
    assert str(fault.value) == f"{path}: database or disk is full; make room on its file system"
    assert len(done) == 500
    assert list(make_archive(path).read_running()) == done
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    again = make_archive(path)
    assert len(start_runs(again, *starts)) == len(again.read_running()) == 2000
    again.close()


def test_a_fault_leaves_the_archive_usable(path: Path) -> None:
    archive = make_archive(path, timeout_s=0)
    start_runs(archive, make_start())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TargetError, match="database is locked"):
            change_runs(archive, Change(KEY, "suspended"))
    change_runs(archive, Change(KEY, "suspended"))
    assert archive.read_running() == {KEY: KnownRun("suspended", "n001", 4)}
    archive.close()
