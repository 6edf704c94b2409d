"""The job archive's tables, the views that people query, and how an older file becomes a newer one.

What is written into the tables, and when, is `sqlite_archive`'s. The statements keep to SQLite 3.26,
which is what the oldest systems with a Python 3.10 bring.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

APPLICATION_ID = 0x736C7379  # "slsy" in the file's header: what tells our files from other programs'

# A migration is what leads from the version before it to its own, the first one from an empty file.
# One that has been released is never edited: a new one is added below it. The columns that
# `read_running` and `read_ended` use stay as they are, for a dry run reads older files as they stand.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE script (
            id INTEGER PRIMARY KEY,
            sha256 TEXT NOT NULL UNIQUE,  -- of the content in UTF-8: thousands of jobs share a script
            content TEXT NOT NULL
        )""",
        """CREATE TABLE run (
            id INTEGER PRIMARY KEY,
            cluster TEXT NOT NULL,
            job_id INTEGER NOT NULL,
            start_time INTEGER NOT NULL,
            array_job_id INTEGER,
            array_task_id INTEGER,
            het_job_id INTEGER,
            het_offset INTEGER,
            user TEXT NOT NULL,
            account TEXT NOT NULL,
            partition TEXT NOT NULL,
            qos TEXT NOT NULL,
            name TEXT NOT NULL,
            state TEXT NOT NULL,           -- running, suspended; completed, failed, cancelled, …
            submit_time INTEGER,
            end_time INTEGER,              -- NULL: has not ended
            evidence TEXT,                 -- how the end is known
            time_limit_s INTEGER,          -- NULL: no limit
            num_nodes INTEGER NOT NULL,
            node_list TEXT NOT NULL,       -- compressed, as Slurm gives it
            cpus INTEGER NOT NULL,
            gpus INTEGER NOT NULL,
            num_hwthreads INTEGER NOT NULL,
            num_acc INTEGER NOT NULL,
            smt INTEGER NOT NULL,
            sharing TEXT NOT NULL,
            memory_mb INTEGER,             -- NULL: not told
            seen_alive INTEGER NOT NULL,   -- 0: known from accounting alone
            info TEXT NOT NULL,
            script_id INTEGER REFERENCES script (id),
            environment TEXT,
            UNIQUE (cluster, job_id, start_time),
            CONSTRAINT job_id_and_start_are_positive CHECK (job_id > 0 AND start_time > 0),
            CONSTRAINT exactly_ended_runs_have_an_end_time
                CHECK ((state IN ('running', 'suspended')) = (end_time IS NULL)),
            CONSTRAINT the_end_is_not_before_the_start CHECK (end_time >= start_time)
        )""",
        # Millions of ended runs must not slow down the question of every pass. With `end_time` in it,
        # SQLite takes it rather than another index that begins with the cluster.
        "CREATE INDEX run_not_ended ON run (cluster, end_time) WHERE end_time IS NULL",
        "CREATE INDEX run_by_start ON run (cluster, start_time)",
        """CREATE TABLE node (
            run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,     -- its place in the run's order
            host TEXT NOT NULL,
            cpus INTEGER,                  -- as Slurm counts them; NULL here and below: not told
            cores TEXT,                    -- Slurm's node-wide core numbers, as ranges: 0-15,32-47
            hwthreads TEXT,                -- the mapped ids, as ranges
            accelerators TEXT NOT NULL,    -- the mapped ids, with commas
            PRIMARY KEY (run_id, position)
        ) WITHOUT ROWID""",
        "CREATE INDEX node_by_host ON node (host)",
        """CREATE TABLE device (
            run_id INTEGER NOT NULL,
            position INTEGER NOT NULL,     -- the node's
            ordinal INTEGER NOT NULL,
            name TEXT NOT NULL,            -- Slurm's gres: gpu, fpga, …
            type TEXT NOT NULL,            -- '': untyped
            count INTEGER NOT NULL,
            indexes TEXT,                  -- Slurm's indexes on the node, as ranges; NULL: not told
            PRIMARY KEY (run_id, position, ordinal),
            FOREIGN KEY (run_id, position) REFERENCES node (run_id, position) ON DELETE CASCADE
        ) WITHOUT ROWID""",
        """CREATE TABLE change (
            id INTEGER PRIMARY KEY,
            run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            time INTEGER NOT NULL,         -- of a start and an end Slurm's, else the pass's
            event TEXT NOT NULL,           -- started, suspended, resumed, resized, ended
            state TEXT NOT NULL,           -- after it
            old_node_list TEXT,            -- resized: what it held until then
            old_cpus INTEGER
        )""",
        "CREATE INDEX change_by_run ON change (run_id)",
    ),
)

# Views hold nothing, so every migration drops them all and makes them anew.
_VIEWS = {
    "runs": """
        SELECT cluster, job_id, array_job_id, array_task_id, het_job_id, het_offset, user, account,
               partition, qos, name, state, submit_time, start_time, end_time,
               end_time - start_time AS duration_s, num_nodes, node_list, cpus, gpus, num_hwthreads,
               num_acc, smt, memory_mb, time_limit_s, sharing, seen_alive, evidence,
               datetime(start_time, 'unixepoch', 'localtime') AS started,
               datetime(end_time, 'unixepoch', 'localtime') AS ended,
               script.content AS script
          FROM run LEFT JOIN script ON script.id = run.script_id""",
    "run_nodes": """
        SELECT run.cluster, run.job_id, run.start_time, node.position, node.host, node.cpus, node.cores,
               node.hwthreads,
               (SELECT group_concat(
                           name || CASE type WHEN '' THEN '' ELSE ':' || type END || ':' || count
                           || CASE WHEN indexes IS NULL THEN '' ELSE '(IDX:' || indexes || ')' END, ',')
                  FROM (SELECT * FROM device
                         WHERE device.run_id = node.run_id AND device.position = node.position
                         ORDER BY ordinal)) AS devices,
               node.accelerators
          FROM node JOIN run ON run.id = node.run_id
         ORDER BY node.run_id, node.position""",
    "run_changes": """
        SELECT run.cluster, run.job_id, run.start_time, change.time,
               datetime(change.time, 'unixepoch', 'localtime') AS at,
               change.event, change.state, change.old_node_list, change.old_cpus
          FROM change JOIN run ON run.id = change.run_id
         ORDER BY change.id""",
}


class ForeignFile(sqlite3.DatabaseError):
    """A whole database that is not ours to touch; reported like one that is none."""


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. The lock is taken at once: one that is upgraded later ends without waiting."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:  # no commit; a full disk has rolled back by itself
            db.execute("ROLLBACK")


def newest_version() -> int:
    return len(MIGRATIONS)


def read_version(db: sqlite3.Connection) -> int:
    """The file's schema version, 0 for an empty one. Raise ForeignFile."""
    # The tables first: whoever makes a file at this moment makes them together with the id.
    blank = db.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    application_id = _read_number(db, "PRAGMA application_id")
    if application_id != APPLICATION_ID and not (blank and application_id == 0):
        raise ForeignFile(f"is another program's database (application id {application_id:#x})")
    version = 0 if blank else _read_number(db, "PRAGMA user_version")
    if version > newest_version():
        raise ForeignFile(
            f"was written by a newer slurm-sync (schema {version}, this one knows {newest_version()})"
        )
    return version


def upgrade(db: sqlite3.Connection) -> None:
    """Lead the file to the newest version, a transaction for each step."""
    while (version := read_version(db)) < newest_version():
        with transaction(db):
            if read_version(db) == version:  # else another process was faster
                _migrate(db, version)


def _migrate(db: sqlite3.Connection, version: int) -> None:
    for view in _VIEWS:  # before the tables: ALTER TABLE fails while a view does not fit
        db.execute(f"DROP VIEW IF EXISTS {view}")
    for statement in MIGRATIONS[version]:
        db.execute(statement)
    for view, query in _VIEWS.items():
        db.execute(f"CREATE VIEW {view} AS {query}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {version + 1}")


def _read_number(db: sqlite3.Connection, query: str) -> int:
    number: int = db.execute(query).fetchone()[0]
    return number
