"""A site's own target, to copy from: a folder with one JSON file for each run.

`running/4711-1747754478.json` appears when a run starts and moves to `ended/` with its ending; `now.json`
shows the present moment. A billing script or a file watcher needs nothing else. A section plugs it in:

    "job-folder": {"class": "example_backend:JobFolder", "path": "/srv/jobs"}

Such a module is looked up beside sync.py and beside the configuration. It knows `model`, `backends.base`
and libraries of its own. A ledger has the methods up to `stop`, a status page `publish` and `interval_s`,
each target `identity`, `check` and `close`. This one is both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

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
from model import ACTIVE, WAITING, Ending, Placement, Run, RunKey, Snapshot, ledger_state

_NAME = re.compile(r"([0-9]+)-([0-9]+)\.json")


class JobFolderSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of its section; settings.py adds `class` and `enabled`, and makes paths absolute."""

    path: Path  # a folder for each cluster


class JobFolder:
    Section: ClassVar[type[msgspec.Struct]] = JobFolderSection
    holds_changes: ClassVar[bool] = False  # suspended and resized runs stay as they started

    def __init__(self, section: JobFolderSection, cluster: str) -> None:
        self._base, self._cluster = section.path, cluster
        self._running, self._ended = section.path / "running", section.path / "ended"

    def identity(self) -> str:
        return f"{self._base}#{self._cluster}"

    def read_running(self) -> dict[RunKey, KnownRun]:
        with self._faults():
            self._base.stat()  # a disk that is not mounted is a fault, a folder without runs is none
            names = [_NAME.fullmatch(path.name) for path in self._running.glob("*.json")]
        return {RunKey(self._cluster, int(n[1]), int(n[2])): KnownRun() for n in names if n}

    def read_ended(self, candidates: Collection[RunKey]) -> set[RunKey]:
        with self._faults():
            return {key for key in candidates if (self._ended / _name(key)).exists()}

    def read_facts(self, saved: dict[str, Any] | None) -> Facts:
        return Facts(version="1")

    def render(self, run: Run, placement: Placement, facts: Facts) -> dict[str, Any]:
        return render_job(run, placement)

    def start(self, starts: Sequence[Start], deadline: Deadline) -> Iterator[Outcome]:
        """Told twice it writes the same file twice: whatever a killed pass left undone is done again."""
        for start in starts:
            with self._faults(deadline):
                _write_whole(self._running / _name(start.run.key), start.body)
            yield Outcome(start.run.key, "done")

    def change(self, changes: Sequence[Change], now: int, deadline: Deadline) -> Iterator[Outcome]:
        return iter(())

    def stop(self, endings: Sequence[Ending], facts: Facts, deadline: Deadline) -> Iterator[Outcome]:
        for ending in endings:
            with self._faults(deadline):
                outcome = self._stop_one(ending)
            yield outcome

    def _stop_one(self, ending: Ending) -> Outcome:
        running, ended = (folder / _name(ending.key) for folder in (self._running, self._ended))
        if not running.exists():
            return Outcome(ending.key, "done" if ended.exists() else "lost", "no such file")
        try:
            body = msgspec.json.decode(running.read_bytes(), type=dict[str, Any])
        except msgspec.DecodeError as error:  # this run's own trouble: the others go on
            return Outcome(ending.key, "refused", f"{running}: {error}")
        end = {"jobState": ledger_state(ending.state), "stopTime": ending.end_time}
        _write_whole(ended, body | end)
        running.unlink()
        return Outcome(ending.key, "done")

    def interval_s(self) -> int:
        return 60

    def publish(self, snapshot: Snapshot, deadline: Deadline) -> str:
        if snapshot.jobs is None or snapshot.nodes is None:  # not read: what stands there stays
            return ""
        states = [job.state for job in snapshot.jobs]
        counts = {"running": sum(s in ACTIVE for s in states), "pending": sum(s in WAITING for s in states)}
        now = {"time": snapshot.now, "nodes": len(snapshot.nodes), **counts}
        with self._faults(deadline):
            _write_whole(self._base / "now.json", now)
        return "now.json"

    def check(self) -> Iterator[Finding]:
        yield Finding(os.access(self._base, os.W_OK), f"{self._base}", "create it, writable for this user")

    def close(self) -> None:
        """Nothing is open between calls."""

    @contextmanager
    def _faults(self, deadline: Deadline | None = None) -> Iterator[None]:
        """A folder's trouble is the target's, not the run's: it ends this target's pass, and no other's."""
        if deadline is not None and not deadline.left_s():
            raise TargetError("no time is left in this pass")
        try:
            yield
        except OSError as error:
            raise TargetError(f"{error.filename or self._base}: {error.strerror}") from error


def _name(key: RunKey) -> str:
    return f"{key.job_id}-{key.start_time}.json"


def _write_whole(path: Path, content: dict[str, Any]) -> None:
    """A reader sees the old file or the new one. Job scripts are in it, so nobody else may enter."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    with aside.open("wb") as file:
        file.write(msgspec.json.encode(content))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
