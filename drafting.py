"""From what was read to one ledger's plan: which runs to start, mapped to its numbering, and which to stop.

Decides through plan.py and hardware.py; reads nothing but the scripts of runs that will be started,
through a function that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

import plan as planning
from applying import say_unexpected
from backends.base import UNEXPECTED, Change, Ledger, Start
from gather import Accounting
from hardware import Hardware, by_host, place
from memory import BackendMemory
from model import Ending, Run, RunKey
from plan import Held, Plan, Selection
from slurm.accounting import Accounted
from slurm.hostlist import HostlistError
from slurm.queue import run_of
from slurm.wire import has_opt_out
from survey import Filters, View
from targets import Target

T = TypeVar("T")


class Reading(msgspec.Struct, frozen=True):
    """All that Slurm told in this pass."""

    now: int
    view: View
    details: dict[RunKey, Run]
    accounting: Accounting
    has_accounting: bool
    opted_out: Collection[str]  # remembered ones


class Drafting(msgspec.Struct, frozen=True):
    """What steers the drafting of plans."""

    reading: Reading
    selection: Selection
    filters: Filters
    hardware: Hardware
    orphan_after_s: int
    attach: Callable[[Run], Run]  # gives a run its script and environment
    warn: Callable[[str], None]
    fault: Callable[[str], None]  # something was left undone: the exit code tells

    def draft(self, target: Target, ledger: Ledger) -> Plan:
        endings = self._endings(target)
        came = dict(self._came_and_went(target))
        runs = [*self._new_runs(target), *(run for run, _ in came.values())]
        direction = self.selection.direction
        if direction == "stop" or target.facts.no_starts:
            runs, came = [], {}
        wanted = self._cut(sorted(runs, key=lambda run: (run.key.start_time, run.key.job_id)))
        hardware = msgspec.structs.replace(self.hardware, topology=by_host(target.facts.topology))
        starts = tuple(s for run in wanted if (s := self._try_start(run, target, ledger, hardware)))
        started = {start.run.key for start in starts}
        lost = self._write_offs(target, endings) if direction != "start" else []
        doubtful = planning.suspected(target.missing, target.part, self.orphan_after_s) if lost else 0
        unsafe = planning.unsafe_write_offs(
            target.name, max(len(lost), doubtful), len(target.running), self.selection.force
        )
        ends = [*endings.values(), *([] if unsafe else lost)]
        ends += [came[key][1] for key in started if key in came]
        ends.sort(key=lambda ending: (ending.end_time, ending.key))
        stops = self._cut(ends) if direction != "start" else []
        return Plan(
            target.name,
            starts,
            self._changes(target, ledger, hardware) if direction == "both" else (),
            tuple(stops),
            self._held(target, {ending.key for ending in ends}),
            self._refused(target),
            unsafe,
            cut=any(run.key in came for run in wanted if run.key not in started)
            or any(len(self._cut(work)) < len(work) for work in (target.wanted, runs, ends)),
        )

    def _cut(self, items: Sequence[T]) -> Sequence[T]:
        limit = self.selection.limit
        return items if limit is None else items[:limit]

    def _write_offs(self, target: Target, endings: Mapping[RunKey, Ending]) -> list[Ending]:
        reading, part = self.reading, target.part
        missing = (key for key in target.missing if key not in endings and self._wants_known(key, part, None))
        lost = planning.write_offs(missing, part, reading.view, self.orphan_after_s)
        return [ending for ending in lost if not planning.is_refused(ending.key, part, reading.now)]

    def _endings(self, target: Target) -> dict[RunKey, Ending]:
        reading, part = self.reading, target.part
        accounted = reading.accounting.pieces | reading.accounting.whole
        silences = reading.accounting.silences(target.missing)
        if not reading.has_accounting:
            silences = dict.fromkeys(target.missing, 0)
        found = planning.endings_for(target.known, reading.view, accounted, part, silences)
        return {
            key: ending
            for key, ending in found.items()
            if not planning.is_refused(key, part, reading.now)
            and self._wants_known(key, part, accounted.get(key))
        }

    def _wants_known(self, key: RunKey, part: BackendMemory, record: Accounted | None) -> bool:
        """--jobid by component needs the record; by task the memory, by plain id the key will do."""
        selection = self.selection
        if record is not None:
            return planning.wants_run(selection, record)
        job = self.reading.view.ended_jobs.get(key)
        if job is not None:
            return planning.wants_job(selection, job)
        watched = part.watched.get(str(key))
        return selection.wants(key.job_id, watched.task if watched is not None else "", "", None)

    def _new_runs(self, target: Target) -> Iterator[Run]:
        """State, start and resources are the detail's: what it does not show as running waits."""
        ids = {key.job_id for key in target.wanted}
        view, part = self.reading.view, target.part
        for key, run in self.reading.details.items():
            fresh = key.job_id in ids and key not in target.known and str(key) not in part.stopped
            if fresh and key not in view.opted_out and not planning.is_refused(key, part, self.reading.now):
                yield run

    def _came_and_went(self, target: Target) -> Iterator[tuple[RunKey, tuple[Run, Ending]]]:
        whole: dict[int, list[Accounted]] = {}
        for record in self.reading.accounting.whole.values():
            whole.setdefault(record.key.job_id, []).append(record)
        for key in target.news:
            known = whole.get(key.job_id, [])
            found = self._whole(key, known) if self.reading.has_accounting else self._listed(key)
            if found is None:
                continue
            run = found[0]
            taken = run.key in target.known or str(run.key) in target.part.stopped
            opted_out = run.key in self.reading.view.opted_out or str(run.key) in self.reading.opted_out
            if not taken and not opted_out:
                yield run.key, found

    def _whole(self, key: RunKey, records: list[Accounted]) -> tuple[Run, Ending] | None:
        """The whole run that a piece of accounting belongs to."""
        piece = self.reading.accounting.pieces.get(key) or self.reading.accounting.whole.get(key)
        for record in records:
            if piece is None or record.end_time != piece.end_time:
                continue
            if has_opt_out(record.opted_out_by, self.filters.opt_out):
                self.reading.view.opted_out.add(record.key)
                return None
            if self.filters.leaves_out(record.run.node_list):
                return None
            return record.run, Ending(
                record.key, record.run.state, max(record.end_time, record.key.start_time), "sacct"
            )
        return None

    def _listed(self, key: RunKey) -> tuple[Run, Ending] | None:
        """Without accounting: a run that squeue still shows as ended."""
        job = self.reading.view.ended_jobs.get(key)
        if job is None:
            return None
        try:
            return run_of(job), self.reading.view.ended[key]
        except HostlistError as error:
            self.warn(f"{key}: {error}")
            return None

    def _try_start(self, run: Run, target: Target, ledger: Ledger, hardware: Hardware) -> Start | None:
        """One run that cannot be mapped or rendered must not keep the others."""
        try:
            return self._start(run, target, ledger, hardware)
        except UNEXPECTED as error:
            self.fault(f"{target.name}: {run.key} cannot be started: {say_unexpected(error)}")
            return None

    def _start(self, run: Run, target: Target, ledger: Ledger, hardware: Hardware) -> Start:
        placement, problems = place(run, hardware)
        for problem in problems:
            self.warn(f"{target.name}: {problem}")
        whole = self.attach(run)
        return Start(whole, placement, ledger.render(whole, placement, target.facts))

    def _changes(self, target: Target, ledger: Ledger, hardware: Hardware) -> tuple[Change, ...]:
        if not ledger.holds_changes:
            return ()
        changes = []
        for key, state, _ in planning.changed_runs(self.reading.view, target.known):
            run = self.reading.details.get(key)
            if not planning.wants_job(self.selection, self.reading.view.active[key]):
                continue
            held = target.known[key]
            # The detail decides: it is what would be stored, and asked for again for ever if it differed.
            if run is not None and (run.node_list, run.cpus) != (held.node_list, held.cpus):
                changes.append(Change(key, state, self._start(run, target, ledger, hardware)))
            elif state != held.state:
                changes.append(Change(key, state))
        return tuple(changes)

    def _held(self, target: Target, ending: set[RunKey]) -> tuple[Held, ...]:
        faults = self.reading.accounting.faults
        reason = "accounting could not be read" if faults else "not in the listing, and no ending is reported"
        left = (key for key in sorted(target.missing) if key not in ending)
        return tuple(Held(key, reason) for key in left if self._wants_known(key, target.part, None))

    def _refused(self, target: Target) -> tuple[Held, ...]:
        view: View = self.reading.view
        told: Mapping[str, RunKey] = {
            str(k): k for k in (*view.alive, *view.ended, *self.reading.accounting.pieces)
        }
        part: BackendMemory = target.part
        return tuple(Held(told[n], r.reason) for n, r in sorted(part.refused.items()) if n in told)
