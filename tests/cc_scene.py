"""A simulated cluster, a double of cc-backend, and passes between them.

The fixture that makes one is cc_fixtures'.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from cc_double import CcDouble
from histories import History

VERSIONS = ("1.2.2", "1.4.4", "1.5.4")
TOKEN = "s3cr3t-t0ken"
CLUSTERS = [json.loads((Path(__file__).parent / "data" / "cc-backend" / "cluster.json").read_text())]


class Scene:
    """Passes that serve a cc-backend and, unless a test takes it out, the ledger in memory beside it."""

    def __init__(self, history: History, version: str) -> None:
        self.history, self.slurm, self.version = history, history.slurm, version
        self.double = CcDouble(
            version, deepcopy(CLUSTERS), clock=lambda: history.slurm.clock, token=TOKEN, commit_after_s=None
        )
        self.section: dict[str, Any] = {"host": self.double.url, "apikey": TOKEN, "node_states": False}
        history.document["cc-backend"] = self.section

    @property
    def is_new(self) -> bool:
        return self.version == "1.5.4"

    def sync(self, *options: str, after_s: int = 60) -> int:
        code = self.history.sync(*options, after_s=after_s)
        for text in (self.history.out, self.history.err, self.history.state_file.read_text()):
            assert TOKEN not in text
        return code

    def jobs(self) -> dict[str, str]:
        """The state of each stored run."""
        return {f"{job['jobId']}@{job['startTime']}": job["jobState"] for job in self.double.jobs}

    def job(self, job_id: int) -> dict[str, Any]:
        (found,) = (job for job in self.double.jobs if job["jobId"] == job_id)
        return found

    def posts(self, route: str) -> list[int]:
        """The job ids that were sent to start_job or stop_job, in order."""
        return [c["jobId"] for method, path, c in self.double.requests if method == "POST" and route in path]

    def lines(self, word: str = "cc-backend") -> list[str]:
        """What the last pass said of the target, but for the summary."""
        return [line for line in self.history.err.splitlines() if word in line and " · " not in line]

    def other_jobs(self) -> set[str]:
        return {str(key) for key in self.history.ledger.runs}

    def part(self) -> Any:
        return self.history.part("cc-backend")


only_new = pytest.mark.parametrize("scene", ["1.5.4"], indirect=True)
with_topology = pytest.mark.parametrize("scene", ["1.4.4", "1.5.4"], indirect=True)
