"""One pass, from the listing to the memory: read → plan → check → apply → publish → remember.

Each step passes values on; nothing that comes later asks something earlier again. Targets are isolated
from each other. What went wrong is collected as faults; sync.py makes the exit code of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import msgspec

import asking
import plan as planning
import remember
from applying import Applying, say_unexpected
from backends.base import UNEXPECTED, Deadline, Ledger, TargetError
from drafting import Drafting, Reading
from gather import WHOLE_A_PASS, Accounting, beside, read_accounting, read_details, read_queue, read_unknown
from hardware import Hardware
from memory import Memory
from model import Job, Run, RunKey, Snapshot
from plan import Selection
from remember import Silence, is_due
from slurm.source import Source
from survey import Filters, View, runs_by_host, shown_jobs, survey
from targets import Target

log = logging.getLogger(__name__)

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
        self._timed("compare", self._compare)
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
        targets, now = self.report.targets, self._now
        return [t for t in targets if t.page is not None and is_due(t.part, t.page.interval_s(), now)]

    def _read_queue(self) -> None:
        """The listing and the nodes, and meanwhile what each target lists as running."""
        with_nodes = bool(self._pages()) and self._rules.nodes
        _, found = beside(self._read_targets, lambda: read_queue(self._source, with_nodes))
        listing, self._nodes, faults = found
        for fault in faults:
            self._fault(f"nodes could not be read, what is shown of them waits: {fault}")
        self._jobs: tuple[Job, ...] = listing.jobs
        rules, opted_out = self._rules, self._memory.opted_out
        self._view: View = survey(listing.jobs, rules.cluster, listing.read_at, rules.filters, opted_out)
        self.report.listed, self.report.active = len(listing.jobs), len(self._view.active)
        self.report.left_out = self._view.left_out

    def _read_targets(self) -> None:
        for target, ledger in self._ledgers():
            self._fault(target.guarded(target.read_running, ledger))

    def _compare(self) -> None:
        """Each target with the listing: what it lacks, and what it holds that is gone."""
        rules, now, view = self._rules, self._now, self._view
        for target, _ in self._ledgers():
            if planning.was_restored(target.running, target.part):
                log.warning(
                    "%s lists as running what it had accepted as stopped: restored? Looking back", target.name
                )
                target.part = remember.forget(self._memory, target.name)
            remember.forget_disproved(target.part, target.running)
            target.window = remember.window(target.part, target.running, now, rules.catch_up_max_s)
            target.known = planning.known_runs(target.running, target.part, rules.cluster, now)
            target.missing = planning.missing_runs(view, target.known, target.part)
            target.retries = planning.passed_by(view, target.known, target.part, now)
            if rules.selection.direction != "stop":
                target.wanted = planning.wanted_starts(view, target.known, target.part, rules.selection, now)

    def _read_rest(self) -> None:
        """Details of what is new, beside accounting."""
        ids = asking.ids_for_details([*self._ledgers()], self._view, self._rules.selection)
        (runs, self._nodes, faults), self._accounting = beside(
            lambda: read_details(self._source, ids, self._nodes), self._read_accounting
        )
        self._details = {run.key: run for run in runs}
        for fault in faults:
            self._fault(f"details could not be read, starts may wait: {fault}")
        self._read_news()
        for fault in self._accounting.faults:
            self._fault(f"accounting could not be read, what needs it is held: {fault}")

    def _read_accounting(self) -> Accounting:
        selection, now = self._rules.selection, self._now
        ledgers = list(self._ledgers())
        missing = asking.runs_for_accounting(ledgers, selection, now)
        windows = [] if selection.jobs else [target.window for target, _ in ledgers]
        look_back = (now - self._rules.catch_up_max_s, now)
        jobs = selection.ids() if ledgers else ()
        return read_accounting(self._source, windows, missing, jobs, look_back)

    def _read_news(self) -> None:
        """Runs that came and went: those that a target holds as ended are none."""
        for target, ledger in self._ledgers():
            self._fault(target.guarded(self._ask_news, target, ledger))
        news = dict.fromkeys(key for target, _ in self._ledgers() for key in target.news)
        read_unknown(self._source, [*news], self._accounting, self._now)

    def _ask_news(self, target: Target, ledger: Ledger) -> None:
        has_accounting = self._source.has_accounting
        ended = asking.ended_runs(target, self._view, self._accounting, self._rules.selection, has_accounting)
        candidates = planning.news(ended, self._view, target.known, target.part, self._now)
        if not candidates:
            return
        held = ledger.read_ended(candidates)
        for key in held:
            remember.note_ended(target.part, key, ended[key], self._now)
        target.news = [key for key in candidates if key not in held]
        target.cut = len(target.news) > WHOLE_A_PASS
        target.news = target.news[:WHOLE_A_PASS]

    def _plan(self) -> None:
        rules = self._rules
        nodes = {node.name: node for node in self._nodes or ()}
        reading = Reading(
            self._now,
            self._view,
            self._details,
            self._accounting,
            self._source.has_accounting,
            self._memory.opted_out.keys(),
        )
        hardware = msgspec.structs.replace(rules.hardware, nodes=nodes)
        drafting = Drafting(
            reading,
            rules.selection,
            rules.filters,
            hardware,
            rules.orphan_after_s,
            rules.attach,
            self._warn,
            self._fault,
        )
        for target, ledger in self._ledgers():
            self._fault(target.guarded(self._draft, target, ledger, drafting))
        self.report.opted_out = len(self._view.opted_out)
        for name in rules.selection.jobs:
            log.info("%s: %s", name, asking.what_is_known(name, self._jobs, self._view, self._accounting))

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
        jobs = shown_jobs(self._jobs)
        snapshot = Snapshot(
            self._rules.cluster,
            self._now,
            jobs if self._rules.jobs else None,
            self._nodes if self._rules.nodes else None,
            runs_by_host(jobs),
        )
        for target in (target for target in self._pages() if target.error is None):
            self._fault(self._publish_on(target, snapshot))

    def _publish_on(self, target: Target, snapshot: Snapshot) -> str | None:
        """A failure here is none of the target's jobs: those are served, and their mark moves on."""
        if target.page is None:
            return None
        try:
            target.published = target.page.publish(snapshot, self._deadline)
        except TargetError as error:
            target.page_error = f"{target.name}: {error}"
        except UNEXPECTED as error:
            target.page_error = f"{target.name}: {say_unexpected(error)}"
        if target.published:
            target.part.published_at = self._now
        return target.page_error

    def _remember(self) -> None:
        told_of = {*self._view.alive, *self._view.ended, *self._accounting.pieces}
        for target in self.report.targets:
            if target.ledger is not None and self._rules.jobs:
                self._remember_ledger(target, told_of)
            elif target.ledger is None and target.published:
                target.part.completed_at = self._now
        remember.note_opt_outs(self._memory, self._view.opted_out, self._now, self._rules.catch_up_max_s)

    def _remember_ledger(self, target: Target, told_of: set[RunKey]) -> None:
        part, rules = target.part, self._rules
        if target.error is not None and not target.known:
            remember.see_alive(part, self._view)
            remember.note_owed(part, self._view.ended.values())
            return
        known = remember.known_after(target.known, part, rules.cluster)
        remember.watch(part, known, self._view, self._silence(target), self._now)
        remember.note_owed(part, (*self._view.ended.values(), *target.plan.stops))
        if self._may_move_mark(target):
            remember.move_mark(part, target.window[1], self._view.read_at)
            part.completed_at = self._now
        elif target.error is None and rules.selection.is_whole:
            remember.begin_mark(part, target.window[0], self._view.read_at)
        remember.note_completing(part, self._view, known)
        remember.tidy(part, target.running, told_of, rules.cluster, self._now)

    def _silence(self, target: Target) -> Silence:
        if not self._source.has_accounting:
            return Silence(target.missing, counts=True)
        return Silence(self._accounting.asked, self._accounting.is_complete)

    def _may_move_mark(self, target: Target) -> bool:
        plan = target.plan
        return (
            target.error is None
            and self._rules.selection.is_whole
            and self._accounting.is_complete
            and target.applied.is_whole
            and not (plan.cut or target.cut or target.facts.no_starts)
        )
