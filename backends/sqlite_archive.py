"""A job archive in one SQLite file: a ledger that works anywhere and that people can query.

What becomes of a run is decided in `plan`, and hardware ids come mapped. How a run becomes rows is
`sqlite_rows`'s, how the file is opened `sqlite_file`'s, and what tables it has `sqlite_schema`'s.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from backends.base import (
    Change,
    Deadline,
    Facts,
    Finding,
    KnownRun,
    Outcome,
    Start,
    TargetError,
    render_job,
)
from backends.sqlite_file import ArchiveFile
from backends.sqlite_rows import find, state_at_start, storable, store_change, store_ending, store_start
from backends.sqlite_schema import newest_version, read_version
from model import Ending, Placement, Run, RunKey

Task = tuple[RunKey, Callable[[sqlite3.Connection], Outcome]]

BATCH = 500  # runs a transaction: what a kill loses at most, and how seldom the disk is waited for

SELECT_RUNNING = (
    "SELECT job_id, start_time, state, node_list, cpus FROM run WHERE cluster = ? AND end_time IS NULL"
)


class SqliteSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: Path
    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 10.0  # of waiting for another's lock


class SqliteArchive:
    Section: ClassVar[type[msgspec.Struct]] = SqliteSection
    holds_changes: ClassVar[bool] = True

    def __init__(self, section: SqliteSection, cluster: str) -> None:
        self._file = ArchiveFile(section.path.absolute(), section.timeout_s)
        self._cluster = cluster

    def identity(self) -> str:
        return f"sqlite:{self._file.path}#{self._cluster}"

    def close(self) -> None:
        self._file.close()

    def read_running(self) -> dict[RunKey, KnownRun]:
        return self._file.read(partial(_query_running, self._cluster), {})

    def read_ended(self, candidates: Collection[RunKey]) -> set[RunKey]:
        # A look-up in the index takes microseconds: thousands need no temporary table.
        return self._file.read(lambda db: {key for key in candidates if _is_ended(db, key)}, set())

    def read_facts(self, saved: dict[str, Any] | None) -> Facts:
        return Facts(version=str(newest_version()))

    def render(self, run: Run, placement: Placement, facts: Facts) -> dict[str, Any]:
        return render_job(run, placement) | {"jobState": state_at_start(run)}

    def start(self, starts: Sequence[Start], deadline: Deadline) -> Iterator[Outcome]:
        return self._store([(start.run.key, partial(store_start, start)) for start in starts], deadline)

    def change(self, changes: Sequence[Change], now: int, deadline: Deadline) -> Iterator[Outcome]:
        return self._store([(change.key, partial(store_change, change, now)) for change in changes], deadline)

    def stop(self, endings: Sequence[Ending], facts: Facts, deadline: Deadline) -> Iterator[Outcome]:
        return self._store([(ending.key, partial(store_ending, ending)) for ending in endings], deadline)

    def check(self) -> Iterator[Finding]:
        path = self._file.path
        try:
            version, runs, running = self._file.read(_query_counts, (0, 0, 0))
            stat = self._file.read_stat()
        except TargetError as fault:
            yield Finding(False, str(fault))
            return
        size, mode = (stat.st_size, stat.st_mode) if stat else (0, 0)
        yield Finding(True, f"{path}: {_describe_version(version)}")
        yield Finding(True, f"{path}: {runs} runs, {running} of them not ended, {size} bytes")
        # The folder too, for SQLite makes files beside its own.
        needed = (path.parent, path) if stat else (path.parent,)
        for denied in (str(place) for place in needed if not os.access(place, os.W_OK)):
            yield Finding(False, f"{denied}: cannot be written", "run as its owner, or change its owner")
        if mode & 0o007:
            yield Finding(False, f"{path}: open to all users, job scripts and all", f"chmod 0600 {path}")

    def _store(self, tasks: Sequence[Task], deadline: Deadline) -> Iterator[Outcome]:
        for first in range(0, len(tasks), BATCH):
            batch = tasks[first : first + BATCH]
            if deadline.left_s() > 0:
                yield from self._file.write(partial(_store_batch, batch))
            else:
                yield from (Outcome(key, "failed", "no time is left in this pass") for key, _ in batch)


def _query_running(cluster: str, db: sqlite3.Connection) -> dict[RunKey, KnownRun]:
    rows = db.execute(SELECT_RUNNING, (storable(cluster),))
    return {RunKey(cluster, row[0], row[1]): KnownRun(*row[2:]) for row in rows}


def _query_counts(db: sqlite3.Connection) -> tuple[int, int, int]:
    runs, running = db.execute("SELECT count(*), count(*) - count(end_time) FROM run").fetchone()
    return read_version(db), runs, running


def _describe_version(version: int) -> str:
    if version == 0:
        return "not there yet, or empty: the first write makes it"
    if version < newest_version():
        return f"schema {version}, the next write leads it to {newest_version()}"
    return f"schema {version}"


def _is_ended(db: sqlite3.Connection, key: RunKey) -> bool:
    held = find(db, key)
    return held is not None and held.end_time is not None


def _store_batch(batch: Sequence[Task], db: sqlite3.Connection) -> list[Outcome]:
    return [_store_one(db, key, store) for key, store in batch]


def _store_one(
    db: sqlite3.Connection, key: RunKey, store: Callable[[sqlite3.Connection], Outcome]
) -> Outcome:
    """A run whole or not at all: one that the tables do not take leaves the others be."""
    db.execute("SAVEPOINT one_run")
    try:
        outcome = store(db)
    except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as fault:
        db.execute("ROLLBACK TO one_run")
        outcome = Outcome(key, "refused", f"the archive does not take it: {fault}")
    db.execute("RELEASE one_run")
    return outcome
