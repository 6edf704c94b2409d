"""A ledger in memory, which a configuration names as a site's own class, and what befalls it.

It behaves as the contract in backends/base.py asks. A test reaches what it holds by `STORES[name]`, for the
pass makes and closes its own object each time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    Verdict,
    render_job,
)
from model import Ending, Placement, Run, RunKey


class Stored(msgspec.Struct):
    """A run as the ledger holds it."""

    state: str
    node_list: str
    cpus: int
    end_time: int | None = None
    evidence: str = ""


class Store:
    """What one ledger holds, and its faults."""

    def __init__(self) -> None:
        self.runs: dict[RunKey, Stored] = {}
        self.hidden: dict[RunKey, Stored] = {}  # accepted, and not listed until commit()
        self.lists_late = False
        self.down: dict[str, str] = {}  # verb → why the target as a whole cannot be served
        self.outcomes: dict[tuple[str, int], Outcome] = {}  # verb and job id → what becomes of it
        self.no_starts = ""
        self.identity = "memory"
        self.calls: list[str] = []

    def commit(self) -> None:
        self.runs |= self.hidden
        self.hidden = {}

    def answer(
        self,
        verb: str,
        job_id: int,
        verdict: Verdict,
        reason: str = "on purpose",
        *,
        within_s: int | None = None,
        blames: bool = False,
    ) -> None:
        self.outcomes[verb, job_id] = Outcome(RunKey("", 0, 0), verdict, reason, within_s, blames)

    def running(self) -> set[RunKey]:
        return {key for key, stored in (self.runs | self.hidden).items() if stored.end_time is None}

    def endings(self) -> dict[RunKey, tuple[str, int, str]]:
        held = self.runs | self.hidden
        return {k: (s.state, s.end_time, s.evidence) for k, s in held.items() if s.end_time is not None}

    def told(self, verb: str) -> list[str]:
        """The runs, as `id@start`, that the verb was used for, and whatever became of it."""
        return [call.split(" ")[1] for call in self.calls if call.split(" ")[0] == verb]


STORES: dict[str, Store] = {}


class LedgerSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class FakeLedger:
    """A Ledger. It holds states and sizes, so it can be told of changes."""

    Section: ClassVar[type[msgspec.Struct]] = LedgerSection
    holds_changes: ClassVar[bool] = True

    def __init__(self, section: LedgerSection, cluster: str) -> None:
        self._store, self._cluster = STORES[section.name], cluster

    def identity(self) -> str:
        return f"{self._store.identity}#{self._cluster}"

    def check(self) -> Iterator[Finding]:
        yield Finding(True, "in memory")

    def close(self) -> None:
        pass

    def read_running(self) -> dict[RunKey, KnownRun]:
        self._ask("list")
        held = self._store.runs.items()
        return {key: KnownRun(s.state, s.node_list, s.cpus) for key, s in held if s.end_time is None}

    def read_ended(self, candidates: Collection[RunKey]) -> set[RunKey]:
        self._ask("ended")
        return {key for key in candidates if key in self._store.endings()}

    def read_facts(self, saved: Mapping[str, Any] | None) -> Facts:
        self._ask("facts")
        return Facts("1", no_starts=self._store.no_starts)

    def render(self, run: Run, placement: Placement, facts: Facts) -> dict[str, Any]:
        return render_job(run, placement)

    def start(self, starts: Sequence[Start], deadline: Deadline) -> Iterator[Outcome]:
        for start in starts:
            run = start.run
            yield self._answer("start", run.key) or self._start(run)

    def change(self, changes: Sequence[Change], now: int, deadline: Deadline) -> Iterator[Outcome]:
        for change in changes:
            yield self._answer("change", change.key) or self._change(change)

    def stop(self, endings: Sequence[Ending], facts: Facts, deadline: Deadline) -> Iterator[Outcome]:
        for ending in endings:
            yield self._answer("stop", ending.key) or self._stop(ending)

    def _ask(self, verb: str) -> None:
        self._store.calls.append(f"{verb} all")
        if verb in self._store.down:
            raise TargetError(self._store.down[verb])

    def _answer(self, verb: str, key: RunKey) -> Outcome | None:
        self._store.calls.append(f"{verb} {key}")
        if verb in self._store.down:
            raise TargetError(self._store.down[verb])
        found = self._store.outcomes.get((verb, key.job_id))
        return None if found is None else msgspec.structs.replace(found, key=key)

    def _start(self, run: Run) -> Outcome:
        store = self._store
        if run.key not in store.runs | store.hidden:
            place = store.hidden if store.lists_late else store.runs
            state = "suspended" if run.state == "SUSPENDED" else "running"
            place[run.key] = Stored(state, run.node_list, run.cpus)
        return Outcome(run.key, "done")

    def _change(self, change: Change) -> Outcome:
        stored = self._store.runs[change.key]
        stored.state = change.state
        if change.start is not None:
            stored.node_list, stored.cpus = change.start.run.node_list, change.start.run.cpus
        return Outcome(change.key, "done")

    def _stop(self, ending: Ending) -> Outcome:
        self._store.commit()
        stored = self._store.runs.get(ending.key)
        if stored is None:
            return Outcome(ending.key, "lost", "it does not hold this run")
        if stored.end_time is None:
            stored.state, stored.end_time = ending.state, ending.end_time
            stored.evidence = ending.evidence
        return Outcome(ending.key, "done")
