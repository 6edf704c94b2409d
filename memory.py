"""What a pass remembers for the next one: the state file and the lock.

The file is whole or not at all, readable, 0600. Losing it costs a wider look back, nothing else. How
the memory changes with what a pass saw is decided in remember.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from model import RunKey

SCHEMA = 1
_REMEDY = "is state_dir a folder of this user's, with room left?"


class StateError(Exception):
    """The state folder cannot be used."""


class LockHeldError(Exception):
    """Another pass is at work; `age_s` is how long it has been."""

    def __init__(self, path: Path, age_s: float) -> None:
        super().__init__(f"another pass has held {path} for {age_s:.0f} s")
        self.age_s = age_s


class Refusal(msgspec.Struct):
    """A run that the target does not take."""

    reason: str
    tries: int
    next_try: int  # epoch s
    final: bool = False  # it never will
    seen_at: int = 0  # when Slurm last told of the run


class Watched(msgspec.Struct):
    """A run that the ledger holds as running."""

    last_seen: int  # when Slurm's listing last had it active; 0: never by this state file
    asked_at: int = 0  # when accounting was last asked for its ending
    good_at: int = 0  # the last pass in which Slurm could have told of it and did not; 0: none yet
    missing_s: int = 0  # how long such passes have lasted
    task: str = ""  # `9_3` for a task of an array


class Accepted(msgspec.Struct):
    """A start that the target accepted and may not list yet."""

    at: int


class Stopped(msgspec.Struct):
    """A run that the target accepted as ended."""

    end_time: int
    at: int


class Owed(msgspec.Struct):
    """An ending that was seen and that the target has not accepted yet."""

    state: str
    end_time: int
    evidence: str


class BackendMemory(msgspec.Struct):
    """One backend's part. Runs stand as `job id@start`."""

    identity: str = ""
    mark: int | None = None  # accounting is done up to here
    accepted: dict[str, Accepted] = {}
    stopped: dict[str, Stopped] = {}
    refused: dict[str, Refusal] = {}
    completing: dict[str, int] = {}  # unknown runs that were completing → when last
    failing: dict[str, int] = {}  # passes in which this run alone got a 5xx
    watched: dict[str, Watched] = {}
    owed: dict[str, Owed] = {}
    facts: dict[str, Any] | None = None
    facts_at: int = 0
    published_at: int = 0
    completed_at: int = 0  # the last pass that this target got whole


class _Head(msgspec.Struct):
    schema: int = SCHEMA


class Memory(msgspec.Struct):
    """The state file."""

    schema: int = SCHEMA
    cluster: str = ""
    backends: dict[str, BackendMemory] = {}
    opted_out: dict[str, int] = {}  # run → when it was last seen
    slurm_failures: int = 0  # in a row
    slurm_failed_at: int = 0
    said: dict[str, int] = {}  # fault → when it was last said


def key_of(text: str, cluster: str) -> RunKey:
    job_id, _, start = text.partition("@")
    return RunKey(cluster, int(job_id), int(start))


def load(path: Path, cluster: str) -> tuple[Memory, str]:
    """The memory and, where it had to be begun anew, why. A file of a newer schema is not touched."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Memory(cluster=cluster), ""
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}; {_REMEDY}") from error
    try:
        schema = msgspec.json.decode(data, type=_Head).schema  # alone first: a newer one has another shape
        if schema > SCHEMA:
            raise StateError(f"{path}: written by a newer release (schema {schema}); remove it or update")
        memory = msgspec.json.decode(data, type=Memory)
        _check_keys(memory, cluster)
    except (msgspec.DecodeError, ValueError) as error:
        return Memory(cluster=cluster), f"{path}: not a state file ({error}); begun anew"
    if memory.cluster != cluster:
        return Memory(cluster=cluster), f"{path}: belongs to {memory.cluster!r}; begun anew"
    return memory, ""


def _check_keys(memory: Memory, cluster: str) -> None:
    """Raise ValueError where a run's name is none."""
    for part in memory.backends.values():
        places = (part.accepted, part.stopped, part.refused, part.completing, part.failing)
        for names in (*places, part.watched, part.owed):
            for name in names:
                key_of(name, cluster)


def save(path: Path, memory: Memory) -> None:
    """Replace the file. Raise StateError where it cannot be written; the old one then still stands."""
    data = msgspec.json.format(msgspec.json.encode(memory), indent=1) + b"\n"
    try:
        write_whole(path, data)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}; {_REMEDY}") from error


def write_whole(path: Path, data: bytes) -> None:
    """A temporary name in the same folder, fsync, rename: a reader sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        _give_to_owner(handle, path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _give_to_owner(handle: int, folder: Path) -> None:
    """One pass by hand as root must not shut out the user whose folder it is."""
    owner, file = folder.stat(), os.fstat(handle)
    ours = file.st_uid == 0 and file.st_nlink == 1 and file.st_size == 0  # not what somebody linked there
    if os.geteuid() == 0 and owner.st_uid != 0 and ours:
        os.fchown(handle, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock. Raise LockHeldError at once where another pass has it, StateError where nobody can."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        _give_to_owner(handle, path.parent)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}; {_REMEDY}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeldError(path, time.time() - os.fstat(handle).st_mtime) from None
        os.utime(handle)  # its age tells how long a pass has been at work
        yield
    finally:
        os.close(handle)
