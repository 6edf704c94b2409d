"""One pass, from the listing to the memory: read → plan → check → apply → publish → remember.

Each step passes values on; nothing that comes later asks something earlier again. Targets are isolated
from each other. What went wrong is collected as faults; sync.py makes the exit code of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import msgspec

import plan as planning
import remember
from applying import Applying
from backends.base import Deadline, Ledger
from drafting import Drafting, Reading
from gather import WHOLE_A_PASS, Accounting, beside, read_accounting, read_details, read_queue, read_unknown
from hardware import Hardware
from memory import Memory
from model import ENDED, Job, Run, RunKey, Snapshot
from plan import Selection
from slurm.source import Source
from survey import Filters, View, runs_by_host, survey
from targets import Target

log = logging.getLogger(__name__)

DETAILS_A_PASS = 2_000
CRON_JITTER_S = 5
NOT_SHOWN = ENDED | {"REVOKED"}  # by a status page

Tick = Callable[[], None]


class Rules(msgspec.Struct, frozen=True):
    """What steers a pass: the configuration's and the command line's part in it."""

    cluster: str
    filters: Filters
    hardware: Hardware  # without nodes and topology, which the pass reads
    selection: Selection
    catch_up_max_s: int
    orphan_after_s: int
    attach: Callable[[Run], Run]  # gives a run its script and environment
    dry_run: bool = False
    jobs: bool = True  # --only
    nodes: bool = True


class Report(msgspec.Struct):
    """What a person, a monitor and the exit code need of a pass."""

    cluster: str
    now: int
    targets: list[Target]
    faults: list[str] = []
    warnings: list[str] = []
    listed: int = 0
    active: int = 0
    left_out: int = 0
    opted_out: int = 0
    seconds: dict[str, float] = {}
    dry_run: bool = False


class Pass:
    """The steps in their order, and the values between them."""

    def __init__(
        self, source: Source, targets: list[Target], memory: Memory, rules: Rules, deadline: Deadline
    ) -> None:
        self._source, self._memory, self._rules, self._deadline = source, memory, rules, deadline
        self._now = source.now()
        self.report = Report(rules.cluster, self._now, targets, dry_run=rules.dry_run)

    def run(self, tick: Callable[[int], Tick]) -> Report:
        """Raise SourceError where the queue cannot be read: nothing was changed then."""
        self._timed("queue", self._read_queue)
        self._timed("targets", self._read_targets)
        self._timed("details", self._read_rest)
        self._timed("plan", self._plan)
        if not self._rules.dry_run:
            self._timed("apply", lambda: self._apply(tick))
            self._timed("publish", self._publish)
            self._remember()
        return self.report

    def _timed(self, step: str, work: Callable[[], None]) -> None:
        began = time.monotonic()
        work()
        self.report.seconds[step] = round(time.monotonic() - began, 3)

    def _fault(self, text: str | None) -> None:
        if text is not None and text not in self.report.faults:
            self.report.faults.append(text)
            log.error("%s", text)

    def _warn(self, text: str) -> None:
        if text not in self.report.warnings:
            self.report.warnings.append(text)
            log.warning("%s", text)

    def _ledgers(self) -> Iterator[tuple[Target, Ledger]]:
        """Those that can be asked, while they can."""
        for target in self.report.targets:
            if self._rules.jobs and target.ledger is not None and target.error is None:
                yield target, target.ledger

    def _pages(self) -> list[Target]:
        """Status pages that are due; a test sync of single jobs shows nothing."""
        if self._rules.selection.jobs:
            return []
        return [t for t in self.report.targets if t.page is not None and self._is_due(t, t.page.interval_s())]

    def _is_due(self, target: Target, interval_s: int | None) -> bool:
        since_s = self._now - target.part.published_at
        # cron is no metronome; and a clock that was set back must not silence a page.
        return interval_s is not None and (since_s >= interval_s - CRON_JITTER_S or since_s < 0)

    def _read_queue(self) -> None:
        listing, self._nodes, faults = read_queue(self._source, bool(self._pages()) and self._rules.nodes)
        for fault in faults:
            self._fault(f"nodes could not be read, what is shown of them waits: {fault}")
        self._jobs: tuple[Job, ...] = listing.jobs
        rules = self._rules
        self._view: View = survey(
            listing.jobs, rules.cluster, listing.read_at, rules.filters, self._memory.opted_out
        )
        self.report.listed, self.report.active = len(listing.jobs), len(self._view.active)
        self.report.left_out = self._view.left_out

    def _read_targets(self) -> None:
        for target, ledger in self._ledgers():
            self._fault(target.guarded(self._read_target, target, ledger))

    def _read_target(self, target: Target, ledger: Ledger) -> None:
        rules, now, view = self._rules, self._now, self._view
        target.running = ledger.read_running()
        if planning.was_restored(target.running, target.part):
            log.warning(
                "%s lists as running what it had accepted as stopped: restored? Looking back", target.name
            )
            target.part = remember.forget(self._memory, target.name)
        target.window = remember.window(target.part, target.running, now, rules.catch_up_max_s)
        target.known = planning.known_runs(target.running, target.part, rules.cluster, now)
        target.missing = planning.missing_runs(view, target.known, target.part)
        target.retries = planning.due_refusals(view, target.known, target.part, now)
        if rules.selection.direction != "stop":
            target.wanted = planning.wanted_starts(view, target.known, target.part, rules.selection, now)

    def _read_rest(self) -> None:
        """Details of what is new, beside accounting."""
        ids = self._ids_for_details()
        (runs, self._nodes, faults), self._accounting = beside(
            lambda: read_details(self._source, ids, self._nodes), self._read_accounting
        )
        self._details = {run.key: run for run in runs}
        for fault in faults:
            self._fault(f"details could not be read, starts may wait: {fault}")
        self._read_news()
        for fault in self._accounting.faults:
            self._fault(f"accounting could not be read, what needs it is held: {fault}")

    def _ids_for_details(self) -> set[int]:
        """Of runs that some ledger may have to start, oldest first, and of those that were resized."""
        wanted = {key for target, _ in self._ledgers() for key in self._rules.selection.cut(target.wanted)}
        oldest = sorted(wanted, key=lambda key: (key.start_time, key.job_id))[:DETAILS_A_PASS]
        resized = {
            key
            for target, ledger in self._ledgers()
            if ledger.holds_changes
            for key, _, differs in planning.changed_runs(self._view, target.known)
            if differs
        }
        return {key.job_id for key in (*oldest, *resized)}

    def _read_accounting(self) -> Accounting:
        selection, now = self._rules.selection, self._now
        ledgers = list(self._ledgers())
        missing = dict.fromkeys(key for target, _ in ledgers for key in (*target.missing, *target.retries))
        if selection.jobs:
            wanted = set(selection.ids())
            missing = {key: None for key in missing if key.job_id in wanted}
        windows = [] if selection.jobs else [target.window for target, _ in ledgers]
        look_back = (now - self._rules.catch_up_max_s, now)
        jobs = selection.ids() if ledgers else ()
        return read_accounting(self._source, windows, list(missing), jobs, look_back)

    def _read_news(self) -> None:
        """Runs that came and went: those that a target holds as ended are none."""
        for target, ledger in self._ledgers():
            self._fault(target.guarded(self._ask_news, target, ledger))
        news = dict.fromkeys(key for target, _ in self._ledgers() for key in target.news)
        read_unknown(self._source, [*news], self._accounting, self._now)

    def _ask_news(self, target: Target, ledger: Ledger) -> None:
        ended = self._ended_runs(target)
        candidates = planning.news(ended, self._view, target.known, target.part, self._now)
        if not candidates:
            return
        held = ledger.read_ended(candidates)
        for key in held:
            remember.note_ended(target.part, key, ended[key], self._now)
        target.news = [key for key in candidates if key not in held]
        target.cut = len(target.news) > WHOLE_A_PASS
        target.news = target.news[:WHOLE_A_PASS]

    def _ended_runs(self, target: Target) -> dict[RunKey, int]:
        """Runs that ended in the ledger's window, or that --jobid names → their end."""
        selection, (since, until) = self._rules.selection, target.window
        if not self._source.has_accounting:
            jobs = self._view.ended_jobs
            return {
                k: e.end_time
                for k, e in self._view.ended.items()
                if k in jobs and e.end_time >= since and planning.wants_job(selection, jobs[k])
            }
        records = self._accounting.whole if selection.jobs else self._accounting.pieces
        found = {
            k: r.end_time
            for k, r in records.items()
            if r.has_ended
            and planning.wants_run(selection, r)
            and (selection.jobs or since <= r.end_time <= until)
        }
        whole = self._accounting.whole
        return found | {k: whole[k].end_time for k in target.retries if k in whole and whole[k].has_ended}

    def _plan(self) -> None:
        rules = self._rules
        nodes = {node.name: node for node in self._nodes or ()}
        reading = Reading(self._now, self._view, self._details, self._accounting, self._source.has_accounting)
        hardware = msgspec.structs.replace(rules.hardware, nodes=nodes)
        drafting = Drafting(
            reading, rules.selection, rules.filters, hardware, rules.orphan_after_s, rules.attach, self._warn
        )
        for target, ledger in self._ledgers():
            self._fault(target.guarded(self._draft, target, ledger, drafting))
        self.report.opted_out = len(self._view.opted_out)

    def _draft(self, target: Target, ledger: Ledger, drafting: Drafting) -> None:
        if target.wanted or target.news or target.known:
            target.facts = ledger.read_facts(remember.saved_facts(target.part, self._now))
            remember.note_facts(target.part, target.facts, self._now)
        if target.facts.no_starts:
            self._fault(f"{target.name}: nothing is started: {target.facts.no_starts}")
        target.plan = drafting.draft(target, ledger)
        if target.plan.unsafe:
            log.error("%s", target.plan.unsafe)

    def _apply(self, tick: Callable[[int], Tick]) -> None:
        for target, ledger in self._ledgers():
            plan = target.plan
            applying = Applying(
                target.name, ledger, target.part, self._now, tick(len(plan.starts) + len(plan.stops))
            )
            target.applied = applying.run(plan, target.facts, self._deadline)
            if target.applied.error is not None:
                target.error = f"{target.name}: {target.applied.error}"
                self._fault(target.error)

    def _publish(self) -> None:
        jobs = tuple(job for job in self._jobs if job.state not in NOT_SHOWN)
        snapshot = Snapshot(
            self._rules.cluster,
            self._now,
            jobs if self._rules.jobs else None,
            self._nodes if self._rules.nodes else None,
            runs_by_host(self._view.active.values()),
        )
        for target in self._pages():
            self._fault(target.guarded(self._publish_on, target, snapshot))

    def _publish_on(self, target: Target, snapshot: Snapshot) -> None:
        if target.page is not None:
            target.published = target.page.publish(snapshot, self._deadline)
            target.part.published_at = self._now

    def _remember(self) -> None:
        told_of = {*self._view.alive, *self._view.ended, *self._accounting.pieces}
        for target in self.report.targets:
            if target.ledger is not None and self._rules.jobs:
                self._remember_ledger(target, told_of)
            elif target.ledger is None and target.published and target.error is None:
                target.part.completed_at = self._now
        keep_s = self._rules.catch_up_max_s
        remember.note_opt_outs(self._memory, self._view.opted_out, self._now, keep_s)

    def _remember_ledger(self, target: Target, told_of: set[RunKey]) -> None:
        part, rules = target.part, self._rules
        if target.error is not None and not target.known:
            remember.see_alive(part, self._view)
            return
        known = remember.known_after(target.known, part, rules.cluster)
        remember.watch(part, known, self._view, self._silences(target), self._now)
        if self._may_move_mark(target):
            remember.move_mark(part, target.window[1], self._view.read_at)
            part.completed_at = self._now
        remember.tidy(part, target.running, told_of, rules.cluster, self._now)

    def _silences(self, target: Target) -> dict[RunKey, bool]:
        """The missing runs that Slurm was asked for → whether its silence counts towards a write-off."""
        if not self._source.has_accounting:
            return dict.fromkeys(target.missing, True)
        counts = self._accounting.is_complete
        return {key: counts for key in target.missing if key in self._accounting.asked}

    def _may_move_mark(self, target: Target) -> bool:
        plan = target.plan
        return (
            target.error is None
            and self._rules.selection.is_whole
            and self._accounting.is_complete
            and target.applied.is_whole
            and not (plan.cut or target.cut or target.facts.no_starts)
        )
