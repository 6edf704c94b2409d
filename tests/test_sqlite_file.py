"""The job archive's file: what reading leaves alone, who may read it, and what --check says of it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlite_runs import (
    START,
    change_runs,
    make_archive,
    make_ending,
    make_start,
    read_fault,
    read_folder,
    start_runs,
    stop_runs,
    write_fault,
    write_run,
)

from backends.base import Finding, KnownRun
from backends.sqlite_archive import SqliteArchive
from model import RunKey

KEY = RunKey("noctua", 4711, START)
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users can reach: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def unprivileged(folder: Path, mode: int = 0o444) -> Iterator[None]:
    """As a user who may do with the files in the folder what the mode says, and write nothing there."""
    for file in folder.iterdir():
        file.chmod(mode)
    folder.chmod(0o555)
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(uid)
        folder.chmod(0o755)


def leave_as_if_killed(path: Path) -> None:
    """A file whose only run stands in its -wal, as after a kill."""
    archive = make_archive(path)
    start_runs(archive, make_start())
    content = read_folder(path.parent)
    archive.close()
    for name, data in content.items():
        (path.parent / name).write_bytes(data)


def read_everything(archive: SqliteArchive) -> None:
    """All that a dry run and --check ask."""
    archive.read_running()
    archive.read_ended([KEY])
    archive.read_facts(None)
    list(archive.check())
    assert start_runs(archive) == change_runs(archive) == stop_runs(archive) == []
    archive.close()


def test_an_archive_that_is_not_there_is_empty_and_reading_creates_nothing(path: Path) -> None:
    archive = make_archive(path)
    read_everything(archive)
    assert archive.read_running() == {}
    assert archive.read_ended([KEY]) == set()
    assert list(archive.check()) == [
        Finding(True, f"{path}: not there yet, or empty: the first write makes it"),
        Finding(True, f"{path}: 0 runs, 0 of them not ended, 0 bytes"),
    ]
    assert read_folder(path.parent) == {}


def test_reading_a_resting_archive_changes_no_byte_and_makes_no_file(path: Path) -> None:
    write_run(path)
    before = read_folder(path.parent)
    assert list(before) == ["jobs.db"]
    read_everything(make_archive(path))
    assert read_folder(path.parent) == before


def test_reading_after_a_kill_sees_what_was_committed_and_changes_no_content(path: Path) -> None:
    leave_as_if_killed(path)
    before = read_folder(path.parent)
    assert sorted(before) == ["jobs.db", "jobs.db-shm", "jobs.db-wal"]
    assert make_archive(path).read_running() == {KEY: KnownRun("running", "n001", 4)}
    read_everything(make_archive(path))
    # -shm is no content: it is the index of -wal, which SQLite makes again.
    assert read_folder(path.parent) | {"jobs.db-shm": b""} == before | {"jobs.db-shm": b""}


def test_runs_in_the_wal_are_seen_through_a_symbolic_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    leave_as_if_killed(tmp_path / "disk" / "real.db")
    path.symlink_to(tmp_path / "disk" / "real.db")
    assert list(make_archive(path).read_running()) == [KEY]


def test_an_archive_in_a_folder_that_cannot_be_written_is_read_and_not_written(public_folder: Path) -> None:
    path = public_folder / "jobs.db"
    write_run(path)
    with unprivileged(public_folder):
        assert list(make_archive(path).read_running()) == [KEY]
        reason = write_fault(path)
    assert reason.startswith(f"{path}: ")
    assert reason.endswith("accessible to this user") or reason.endswith("writable for this user")


def test_a_killed_archive_in_a_folder_that_cannot_be_written_is_read(public_folder: Path) -> None:
    path = public_folder / "jobs.db"
    leave_as_if_killed(path)
    with unprivileged(public_folder):
        assert list(make_archive(path).read_running()) == [KEY]
    (public_folder / "jobs.db-shm").unlink()
    with unprivileged(public_folder):
        assert read_fault(path) == (
            f"{path}: unable to open database file; it must be a file, and it and its folder accessible to"
            " this user"
        )


def test_a_file_that_others_may_not_read_is_a_fault(public_folder: Path) -> None:
    path = public_folder / "jobs.db"
    write_run(path)
    with unprivileged(public_folder, mode=0o000):
        assert read_fault(path).startswith(f"{path}: unable to open database file; it must be a file")


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_its_owner_can_read_the_file_and_those_beside_it(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        archive = make_archive(path)
        start_runs(archive, make_start())
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        archive.close()
    finally:
        os.umask(before)
    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600}


def test_check_tells_version_runs_size_and_who_can_read(path: Path) -> None:
    archive = make_archive(path)
    start_runs(archive, make_start(), make_start(2))
    stop_runs(archive, make_ending(make_start(2)))
    archive.close()
    size = path.stat().st_size
    told = [
        Finding(True, f"{path}: schema 1"),
        Finding(True, f"{path}: 2 runs, 1 of them not ended, {size} bytes"),
    ]
    assert list(archive.check()) == told
    path.chmod(0o604)
    opened = Finding(False, f"{path}: open to all users, job scripts and all", f"chmod 0600 {path}")
    assert list(archive.check()) == [*told, opened]


def test_check_tells_what_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(path)
    monkeypatch.setattr(os, "access", lambda place, mode: place != path)
    denied = Finding(False, f"{path}: cannot be written", "run as its owner, or change its owner")
    assert denied in list(make_archive(path).check())
