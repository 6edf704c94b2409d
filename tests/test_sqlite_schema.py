"""How a file of an older version becomes a newer one, and how it stays whole where that fails."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_runs import (
    START,
    make_archive,
    make_start,
    query,
    read_dump,
    read_fault,
    read_folder,
    start_runs,
    write_fault,
)

from backends import sqlite_schema
from backends.base import Facts, Finding, TargetError
from backends.sqlite_archive import SELECT_RUNNING
from model import RunKey

FIRST = RunKey("noctua", 1, START)
ADD_COLUMN = ("ALTER TABLE run ADD COLUMN wckey TEXT NOT NULL DEFAULT '*'",)
RENAME_TABLE = ("ALTER TABLE change RENAME TO event", "ALTER TABLE event RENAME TO change")
BROKEN = ("CREATE TABLE half (id INTEGER)", "ALTER TABLE nowhere ADD COLUMN x")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A file of the first version with a run."""
    path = tmp_path / "jobs.db"
    archive = make_archive(path)
    start_runs(archive, make_start(1, script="sleep 1"))
    archive.close()
    assert query(path, "PRAGMA user_version") == [(1,)]
    return path


def add_migrations(monkeypatch: pytest.MonkeyPatch, *migrations: tuple[str, ...]) -> None:
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS + migrations)


def test_a_new_file_says_whose_it_is_and_its_version(older: Path) -> None:
    assert query(older, "PRAGMA application_id") == [(0x736C7379,)]
    assert query(older, "PRAGMA user_version") == [(len(sqlite_schema.MIGRATIONS),)]
    assert query(older, "PRAGMA journal_mode") == [("wal",)]


def test_the_first_write_leads_an_older_file_to_the_newest_version(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, changes = query(older, "SELECT * FROM runs"), query(older, "SELECT * FROM run_changes")
    add_migrations(monkeypatch, ADD_COLUMN, RENAME_TABLE)
    archive = make_archive(older)
    start_runs(archive, make_start(2))
    assert archive.read_facts(None) == Facts(version="3")
    assert list(archive.read_running()) == [FIRST, RunKey("noctua", 2, START)]
    archive.close()
    assert query(older, "PRAGMA user_version") == [(3,)]
    assert query(older, "SELECT job_id, wckey FROM run") == [(1, "*"), (2, "*")]
    assert query(older, "SELECT * FROM runs WHERE job_id = 1") == runs
    assert query(older, "SELECT * FROM run_changes WHERE job_id = 1") == changes
    assert query(older, "PRAGMA integrity_check") == [("ok",)]


def test_reading_an_older_file_leaves_it_as_it_is(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_folder(older.parent)
    add_migrations(monkeypatch, ADD_COLUMN)
    assert list(make_archive(older).read_running()) == [FIRST]
    finding = Finding(True, f"{older}: schema 1, the next write leads it to 2")
    assert next(make_archive(older).check()) == finding
    assert read_folder(older.parent) == before


def test_a_migration_that_fails_leaves_the_version_before_it(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_dump(older)
    with monkeypatch.context() as patch:
        add_migrations(patch, BROKEN)
        with pytest.raises(TargetError, match="no such table: nowhere"):
            start_runs(make_archive(older), make_start(2))
    assert read_dump(older) == before
    assert query(older, "PRAGMA user_version") == [(1,)]


def test_each_migration_stands_by_itself(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_migrations(monkeypatch, ADD_COLUMN, BROKEN)
    with pytest.raises(TargetError, match="no such table: nowhere"):
        start_runs(make_archive(older), make_start(2))
    assert query(older, "PRAGMA user_version") == [(2,)]
    assert query(older, "SELECT wckey FROM run") == [("*",)]
    assert query(older, "SELECT job_id FROM runs") == [(1,)]


def test_an_older_program_leaves_a_newer_file_alone(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        add_migrations(patch, ADD_COLUMN)
        archive = make_archive(older)
        start_runs(archive, make_start(2))
        archive.close()
    before = read_folder(older.parent)
    assert read_fault(older) == write_fault(older)
    assert read_fault(older) == (
        f"{older}: was written by a newer slurm-sync (schema 2, this one knows 1); install that one, or name"
        " another sqlite.path"
    )
    assert read_folder(older.parent) == before


def test_a_deleted_run_takes_its_rows_along(older: Path) -> None:
    with closing(sqlite3.connect(older, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("DELETE FROM run")
    rows = [query(older, f"SELECT count(*) FROM {table}") for table in ("node", "device", "change")]  # noqa: S608
    assert rows == [[(0,)]] * 3


def test_the_question_of_every_pass_uses_its_index(older: Path) -> None:
    plan = query(older, f"EXPLAIN QUERY PLAN {SELECT_RUNNING}", "noctua")
    assert plan[0][-1].endswith("run USING INDEX run_not_ended (cluster=? AND end_time=?)")
