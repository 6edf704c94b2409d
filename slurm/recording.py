"""A recording asked instead of a cluster: a folder with the answers of one moment.

`squeue.json`, `sacct.json`, `scontrol_node.json` or `sinfo.json`, `scontrol_job_d.txt`, `state_save/`
and `epoch.txt`, the moment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from model import Node, Run
from slurm import accounting_json, cpu_ids, details, nodes, queue
from slurm.accounting import Accounted
from slurm.document import AnswerError
from slurm.source import Listing, SourceError, parsed
from slurm.wire import ShapeError


class Recording:
    """A Source: what a cluster said once."""

    def __init__(self, folder: Path, cluster: str) -> None:
        self._folder, self._cluster = folder, cluster
        self.has_accounting = (folder / "sacct.json").exists()

    def now(self) -> int:
        text = self._read("epoch.txt").decode("ascii", "replace").strip()
        if not text.isdecimal():
            raise SourceError(f"{self._folder / 'epoch.txt'}: expected the moment in epoch seconds")
        return int(text)

    def read_listing(self) -> Listing:
        jobs = parsed(queue.parse_listing_json, self._read("squeue.json"), self._cluster)
        return Listing(jobs, self.now())

    def read_details(self, ids: Collection[int], known: Mapping[str, Node]) -> tuple[Run, ...]:
        answer = self._read("squeue.json")
        runs = parsed(details.parse_details, answer, self._cluster, frozenset(ids), known)
        return cpu_ids.settle_cores(runs, known, self._read_cpu_ids)

    def _read_cpu_ids(self) -> Mapping[int, cpu_ids.CpuIds]:
        name = "scontrol_job_d.txt"
        return cpu_ids.parse_cpu_ids(self._read(name)) if (self._folder / name).exists() else {}

    @cached_property
    def _accounted(self) -> tuple[Accounted, ...]:
        return parsed(accounting_json.parse_json, self._read("sacct.json"), self._cluster)

    def read_window(self, since: int, until: int) -> tuple[Accounted, ...]:
        return tuple(r for r in self._accounted if r.has_ended and since <= r.end_time <= until)

    def read_accounted(self, ids: Sequence[int], since: int, until: int) -> tuple[Accounted, ...]:
        asked = frozenset(ids)
        return tuple(
            r
            for r in self._accounted
            if r.key.job_id in asked and r.key.start_time <= until and not 0 < r.end_time < since
        )

    def read_backlog(self) -> int:
        return 0

    def read_nodes(self) -> tuple[Node, ...]:
        """From the file of the two that holds nodes one by one: which one does depends on the release."""
        problem = "neither scontrol_node.json nor sinfo.json is there"
        for name in ("scontrol_node.json", "sinfo.json"):
            answer = self._read(name) if (self._folder / name).exists() else b""
            if answer:
                try:
                    return nodes.parse_nodes(answer, name)
                except (AnswerError, ShapeError) as error:
                    problem = str(error)
        raise SourceError(f"{self._folder}: {problem}")

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise SourceError(f"{self._folder / name}: {error.strerror}") from error
