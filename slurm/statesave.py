"""Job scripts and environments from Slurm's state-save directory. Reads files, decides nothing.

`<dir>/hash.<id % 10>/job.<id>/script`; the id is the array's for array tasks and the leader's for
heterogeneous jobs (up to 22.05 a component's own script is a dummy). What lies there is its owner's
text: any bytes, any size, and no link is followed.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path
from typing import Literal

from model import Run

log = logging.getLogger(__name__)

EnvironmentMode = Literal["none", "redacted", "full"]

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASS|_PWD|KEY|CRED|AUTH|COOKIE|JWT|SIGNATURE", re.IGNORECASE)


_URL_PASSWORD = re.compile(r"://[^/\s]*:[^@\s]*@")


class StateSaveError(Exception):
    """The directory cannot be read at all."""


def owner_id(run: Run) -> int:
    """Whose files are this run's."""
    return run.array_job_id or run.het_job_id or run.key.job_id


def check_directory(directory: Path) -> None:
    """Raise StateSaveError unless it can be entered."""
    try:
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
    except OSError as error:
        raise StateSaveError(f"{directory}: {error.strerror}; run as SlurmUser or root") from error


def read_script(directory: Path, job_id: int, max_bytes: int) -> str | None:
    """The script, cut at max_bytes, NULs gone, bytes that are no UTF-8 replaced; None: there is none."""
    data = _read(directory, job_id, "script", max_bytes)
    return None if data is None else data.replace(b"\0", b"").decode("utf-8", "replace")


def read_environment(directory: Path, job_id: int, max_bytes: int, mode: EnvironmentMode) -> str | None:
    """The environment as `NAME=value` lines; `redacted` hides the values of names that sound secret."""
    data = _read(directory, job_id, "environment", max_bytes) if mode != "none" else None
    if data is None:
        return None
    entries = [entry.decode("utf-8", "replace") for entry in data[4:].split(b"\0") if entry]
    return "\n".join(_redacted(entry) if mode == "redacted" else entry for entry in entries)


def _redacted(entry: str) -> str:
    name, equals, value = entry.partition("=")
    secret = _SECRET_NAME.search(name) or _URL_PASSWORD.search(value)
    return f"{name}=***" if equals and secret else entry


def _read(directory: Path, job_id: int, name: str, max_bytes: int) -> bytes | None:
    try:
        at = _open_folder(directory, f"hash.{job_id % 10}", f"job.{job_id}")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("job %s: its folder in %s cannot be read: %s", job_id, directory, error.strerror)
        return None
    try:
        return _read_file(at, name, max_bytes)
    except FileNotFoundError:
        return None  # an srun job has none; or Slurm removed it meanwhile
    except OSError as error:
        log.warning("job %s: its %s cannot be read: %s", job_id, name, error.strerror)
        return None
    finally:
        os.close(at)


def _open_folder(directory: Path, *parts: str) -> int:
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for part in parts:
        try:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)
        at = inner
    return at


def _read_file(at: int, name: str, max_bytes: int) -> bytes | None:
    # Without O_NONBLOCK a FIFO in the place of the file would hold the pass for ever.
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(max_bytes)
    finally:
        os.close(handle)
