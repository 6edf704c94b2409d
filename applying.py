"""Carries a plan out on its ledger and notes in its memory what became of each run. Writes to the target.

Jobs are isolated from each other: one refusal is counted, the next goes on.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from backends.base import UNEXPECTED, Deadline, Facts, Ledger, Outcome, TargetError
from memory import BackendMemory
from model import Ending, RunKey
from plan import Plan
from remember import blame, note_start, note_stop

log = logging.getLogger(__name__)


def say_unexpected(error: BaseException) -> str:
    """Where it happened, but not its text: a library's may hold a header, and with it the token."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


class Applied(msgspec.Struct):
    """What a ledger made of its plan."""

    started: int = 0
    changed: int = 0
    stopped: int = 0
    refused: int = 0
    failed: int = 0
    error: str | None = None  # why the target was given up in the middle
    failed_runs: set[RunKey] = set()  # transient: the next pass tries again

    @property
    def is_whole(self) -> bool:
        return self.error is None and not self.failed


class Applying:
    """One ledger, one plan, one pass."""

    def __init__(
        self, name: str, ledger: Ledger, part: BackendMemory, now: int, tick: Callable[[], None]
    ) -> None:
        self._name, self._ledger, self._part, self._now = name, ledger, part, now
        self._tick = tick  # called for each run, for a progress bar
        self.applied = Applied()
        self._failed: list[Outcome] = []

    def run(self, plan: Plan, facts: Facts, deadline: Deadline) -> Applied:
        """Stops of what it holds, starts, changes, then the stops of runs that came and went."""
        new = {start.run.key for start in plan.starts}
        try:
            self._stop([e for e in plan.stops if e.key not in new], facts, deadline)
            started = self._start(plan, deadline)
            self._change(plan, deadline)
            self._stop([e for e in plan.stops if e.key in started], facts, deadline)
        except TargetError as error:
            self.applied.error = str(error)
        except UNEXPECTED as error:
            self.applied.error = say_unexpected(error)
        self._blame()
        return self.applied

    def _start(self, plan: Plan, deadline: Deadline) -> set[RunKey]:
        runs = {start.run.key: start.run for start in plan.starts}
        done: set[RunKey] = set()
        for outcome in self._outcomes(self._ledger.start(plan.starts, deadline), "start"):
            note_start(self._part, outcome, self._now)
            if outcome.verdict == "done":
                run = runs[outcome.key]
                self.applied.started += 1
                done.add(outcome.key)
                where = f"{len(run.allocations)} node{'s' * (len(run.allocations) != 1)}"
                log.info("%s: started %s (%s, %s, %s)", self._name, run.key, run.user, run.partition, where)
        return done

    def _change(self, plan: Plan, deadline: Deadline) -> None:
        states = {change.key: change.state for change in plan.changes}
        for outcome in self._outcomes(self._ledger.change(plan.changes, self._now, deadline), "change"):
            if outcome.verdict == "done":
                self.applied.changed += 1
                log.info("%s: %s is %s", self._name, outcome.key, states[outcome.key])

    def _stop(self, endings: list[Ending], facts: Facts, deadline: Deadline) -> None:
        by_key = {ending.key: ending for ending in endings}
        for outcome in self._outcomes(self._ledger.stop(endings, facts, deadline), "stop"):
            ending = by_key[outcome.key]
            note_stop(self._part, ending, outcome, self._now)
            if outcome.verdict == "done":
                self.applied.stopped += 1
                log.info("%s: stopped %s (%s, by %s)", self._name, outcome.key, ending.state, ending.evidence)

    def _outcomes(self, outcomes: Iterator[Outcome], verb: str) -> Iterator[Outcome]:
        for outcome in outcomes:
            self._tick()
            if outcome.verdict in ("refused", "final"):
                self.applied.refused += 1
                never = ", for good" if outcome.verdict == "final" else ""
                log.warning(
                    "%s: %s of %s refused%s: %s", self._name, verb, outcome.key, never, outcome.reason
                )
            elif outcome.verdict in ("failed", "lost"):
                self.applied.failed += 1
                self.applied.failed_runs.add(outcome.key)
                self._failed.append(outcome)
                log.warning("%s: %s of %s failed: %s", self._name, verb, outcome.key, outcome.reason)
            yield outcome

    def _blame(self) -> None:
        """A server that fails for one run while it serves others means the run."""
        if not (self.applied.started or self.applied.stopped):
            return
        for refused in blame(self._part, self._failed, self._now):
            self.applied.failed -= 1
            self.applied.refused += 1
            self.applied.failed_runs.discard(refused.key)
            log.warning("%s: %s is taken as refused: %s", self._name, refused.key, refused.reason)
