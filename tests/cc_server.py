"""A double of cc-backend and the backend that talks to it, for the tests of what is sent and understood."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec
from cc_double import CcDouble
from cc_scene import CLUSTERS, TOKEN
from fake_source import NOW

from backends.base import Deadline, Facts, Outcome, Secret, Start
from backends.clustercockpit import ClusterCockpit
from model import Allocation, Ending, Placement, Resource, Run, RunKey


def key(job_id: int = 1, start_time: int = NOW) -> RunKey:
    return RunKey("noctua", job_id, start_time)


class Server:
    """A double and the backend that talks to it."""

    def __init__(self, version: str, /, **section: Any) -> None:
        self.version, self.now = version, NOW
        self.double = CcDouble(
            version, deepcopy(CLUSTERS), clock=lambda: self.now, token=TOKEN, commit_after_s=None
        ).__enter__()
        self.ledger = self.connect(**section)

    def connect(self, cluster: str = "noctua", **section: Any) -> ClusterCockpit:
        fields = {"host": self.double.url, "apikey": Secret(TOKEN)} | section
        return ClusterCockpit(ClusterCockpit.Section(**fields), cluster)  # type: ignore[arg-type]

    def make(self, run: RunKey, facts: Facts | None = None, host: str = "n2cn001", **fields: Any) -> Start:
        whole = Run(run, "ada", "physics", "normal", "RUNNING", (Allocation(host),), 2, 0, host)
        whole = msgspec.structs.replace(whole, submit_time=run.start_time - 9, memory_mb=500, **fields)
        placement = Placement((Resource(host, (0, 16), ()),), 2, 0, 1)
        facts = facts or self.ledger.read_facts(None)
        return Start(whole, placement, self.ledger.render(whole, placement, facts))

    def start(self, *runs: RunKey | Start) -> list[Outcome]:
        starts = [run if isinstance(run, Start) else self.make(run) for run in runs]
        return list(self.ledger.start(starts, Deadline(30)))

    def stop(self, run: RunKey, state: str = "COMPLETED", after_s: int = 60) -> Outcome:
        ending = Ending(run, state, run.start_time + after_s, "sacct")
        (outcome,) = self.ledger.stop([ending], self.ledger.read_facts(None), Deadline(30))
        return outcome

    def close(self) -> None:
        self.ledger.close()
        self.double.__exit__()
