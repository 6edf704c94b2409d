"""The job archive's file: opened so that reading never changes it, created at the first write.

What stands in it is `sqlite_rows`'s and `sqlite_schema`'s. Whatever is wrong with the file as a
whole comes out of here as a TargetError with its path and, where one is known, the remedy.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from backends.base import TargetError
from backends.sqlite_schema import read_version, transaction, upgrade

T = TypeVar("T")

READ_ATTEMPTS = 5

# By a word of the reason, the first that fits.
_REMEDIES = {
    "locked": "another process keeps it longer than sqlite.timeout_s",
    "disk is full": "make room on its file system",
    "readonly": "it and its folder must be writable for this user",
    "Permission denied": "it and its folder must be accessible to this user",
    "unable to open": "it must be a file, and it and its folder accessible to this user",
    "not a database": "move it away, or name another sqlite.path",
    "another program": "name another sqlite.path",
    "newer slurm-sync": "install that one, or name another sqlite.path",
    "malformed": "save what can be saved with the `.recover` of SQLite's shell, and move it away",
}


class _Stamp(NamedTuple):
    """What changes whenever the file does."""

    inode: int
    size: int
    mtime_ns: int
    in_use: bool  # somebody writes it, or was killed while writing


class ArchiveFile:
    def __init__(self, path: Path, timeout_s: float) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._db: sqlite3.Connection | None = None  # for writing, from the first write on

    def close(self) -> None:
        if self._db is not None:
            with self._faults():
                self._db.close()
            self._db = None

    def read(self, query: Callable[[sqlite3.Connection], T], empty: T) -> T:
        """The query's answer; of a file that is not there, or has no tables yet, `empty`."""
        with self._faults():
            if self._db is not None:
                return query(self._db)
            for _ in range(READ_ATTEMPTS):
                stamp = self._read_stamp()
                if stamp is None:
                    return empty
                try:
                    answer = self._read_once(query, empty, in_use=stamp.in_use)
                except sqlite3.DatabaseError:
                    if self._read_stamp() == stamp:
                        raise
                else:
                    if stamp.in_use or self._read_stamp() == stamp:
                        return answer
            raise TargetError(f"{self.path}: other processes write it faster than it can be read")

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in one transaction; it is on the disk when this returns."""
        with self._faults():
            db = self._open_for_writing()
            with transaction(db):
                return work(db)

    def read_stat(self) -> os.stat_result | None:
        """None: no such file. A missing folder is a fault: its disk may not be mounted."""
        with self._faults():
            try:
                found = self.path.stat()
            except FileNotFoundError:
                folder = self.path.parent
                if folder.is_dir():
                    return None
                remedy = f"mount it, or create it with `install -d -m 0700 {folder}`"
                raise TargetError(f"{self.path}: there is no folder {folder}; {remedy}") from None
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for without end
            raise TargetError(f"{self.path}: is a folder or a device; sqlite.path must name a file")
        return found

    def _read_once(self, query: Callable[[sqlite3.Connection], T], empty: T, *, in_use: bool) -> T:
        # SQLite makes -wal and -shm to read a resting file, leaves them there, and fails where it cannot
        # make them. `immutable` needs neither, but sees no lock: it is only for a resting file, and its
        # answer counts only if the file is the same afterwards. Nor does closing it then drop the locks
        # that this process has through another connection: such a one has its -wal beside the file.
        with closing(self._connect("mode=ro" if in_use else "mode=ro&immutable=1")) as db:
            return query(db) if read_version(db) else empty

    def _read_stamp(self) -> _Stamp | None:
        if (found := self.read_stat()) is None:
            return None
        real = self.path.resolve()  # where SQLite puts what belongs to it
        in_use = any(real.with_name(real.name + suffix).exists() for suffix in ("-wal", "-journal"))
        return _Stamp(found.st_ino, found.st_size, found.st_mtime_ns, in_use)

    def _open_for_writing(self) -> sqlite3.Connection:
        if self._db is None:
            # Whose file it is must be known before: opening one for writing may already change it.
            self.read(lambda db: None, None)
            with suppress(FileExistsError):
                self.path.touch(mode=0o600, exist_ok=False)  # SQLite gives -wal and -shm the same mode
            db = self._connect("mode=rw")
            try:
                _prepare(db)
            except sqlite3.Error:
                db.close()
                raise
            self._db = db
        return self._db

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.as_uri()}?{mode}",
            uri=True,
            timeout=self._timeout_s,
            isolation_level=None,  # transactions are ours
            check_same_thread=False,  # one thread at a time, but not always the same one
        )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as fault:
            reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
            remedy = next((f"; {remedy}" for word, remedy in _REMEDIES.items() if word in reason), "")
            raise TargetError(f"{self.path}: {reason}{remedy}") from fault


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = FULL")  # what is reported as done survives a power cut
    if db.execute("PRAGMA page_count").fetchone()[0] == 0:
        # An empty file would become a WAL file by way of a rollback journal, and a kill at that moment
        # would leave one that cannot be opened for reading only.
        db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA journal_mode = WAL")
    upgrade(db)
