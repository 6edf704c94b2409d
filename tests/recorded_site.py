"""A site on a recording: a configuration with an archive and a double of cc-backend, and passes over it.

What the recordings say is read here independently of slurm/.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cc_double import CcDouble
from cc_scene import CLUSTERS, TOKEN
from histories import fresh_log
from recordings import CLUSTER, Recorded, plain

import sync

PROGRAM = Path(sync.__file__)
OPT_OUT = "disable_cc_submission"

Key = tuple[int, int]


class Site:
    """`play` shows the pass a moment of the recording; what it printed is in `out` and `err`."""

    def __init__(self, folder: Path, recorded: Recorded, version: str = "1.5.4") -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.recorded = folder, recorded
        self.double = CcDouble(
            version, CLUSTERS, clock=lambda: self.recorded.now, token=TOKEN, commit_after_s=None
        )
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        self.archive, self.state = folder / "jobs.db", folder / "state"
        self.document: dict[str, Any] = {
            "clustername": CLUSTER,
            "state_dir": "state",
            "slurm": {"recording": str(recorded.folder)},
            "cc-backend": {"host": self.double.url, "apikey": {"file": "token"}},
            "sqlite": {"path": "jobs.db"},
        }
        self.out = self.err = ""
        self.capsys: pytest.CaptureFixture[str] | None = None

    def __enter__(self) -> Site:
        self.double.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.double.__exit__()

    def show(self, moment: str) -> None:
        self.recorded = Recorded(self.recorded.release, moment)
        self.document["slurm"] = {"recording": str(self.recorded.folder)}

    def write_config(self) -> Path:
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.document))
        config.chmod(0o600)
        return config

    def play(self, *options: str) -> int:
        """A pass in this process."""
        arguments = ["-c", str(self.write_config()), *options]
        if self.capsys is not None:
            self.capsys.readouterr()
        with fresh_log():
            code = sync.main(arguments)
        if self.capsys is not None:
            self.out, self.err = self.capsys.readouterr()
        return code

    def spawn(self, *options: str) -> subprocess.Popen[str]:
        """A pass in a process of its own."""
        command = [sys.executable, "-B", str(PROGRAM), "-c", str(self.write_config()), *options]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, **streams)  # type: ignore[call-overload,no-any-return]

    # What stands in the targets

    def posts(self) -> int:
        return sum(m == "POST" and "nodestate" not in path for m, path, _ in self.double.requests)

    def in_cc(self, is_running: bool) -> set[Key]:
        jobs = (job for job in self.double.jobs if (job["jobState"] == "running") is is_running)
        return {(job["jobId"], job["startTime"]) for job in jobs}

    def archived(self, is_running: bool) -> set[Key]:
        condition = "end_time IS NULL" if is_running else "end_time IS NOT NULL"
        with closing(sqlite3.connect(self.archive)) as db:
            rows = db.execute(f"SELECT job_id, start_time FROM run WHERE {condition}")  # noqa: S608
            return {(job_id, start) for job_id, start in rows}

    def everything(self) -> tuple[Any, ...]:
        """All that the targets hold and the state file says."""
        with closing(sqlite3.connect(self.archive)) as db:
            dump = sorted(_rows(db))
        jobs = sorted(
            ({**job, "id": 0} for job in self.double.jobs), key=lambda j: (j["jobId"], j["startTime"])
        )
        memory = json.loads((self.state / f"{CLUSTER}.json").read_bytes())
        for part in memory["backends"].values():
            part["identity"] = ""
        return jobs, self.double.node_states[-1:], dump, memory

    def files(self) -> dict[str, tuple[int, bytes]]:
        """All files of the site: when they changed and what they hold."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "config.json"]
        return {
            os.fspath(path.relative_to(self.folder)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in paths
        }


def _rows(db: sqlite3.Connection) -> Iterator[str]:
    """Runs, nodes, devices and changes without their row numbers, which count attempts too."""
    for view in ("runs", "run_nodes", "run_changes"):
        for row in db.execute(f"SELECT * FROM {view}"):  # noqa: S608
            yield f"{view} {row}"


# What the recording says


def listed(recorded: Recorded, *words: str) -> set[Key]:
    """Jobs of squeue.json whose word is among these, and that did not opt out; COMPLETING hides the rest."""
    found = set()
    for job in recorded.json("squeue.json")["jobs"]:
        told = job["job_state"]
        states = [told] if isinstance(told, str) else told
        word = next((w for w in states if w in ("COMPLETING", "CONFIGURING")), states[0])
        if word in words and OPT_OUT not in (job["admin_comment"] or "") and job["nodes"]:
            found.add((job["job_id"], plain(job["start_time"])))
    return found


def active(recorded: Recorded) -> set[Key]:
    return listed(recorded, "RUNNING", "SUSPENDED")
