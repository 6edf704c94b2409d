"""What a person and a monitor read of a pass: the plan as table or JSON, the summary line, hourly faults.

Scripts and environments appear as their size.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from backends.base import Start
from conduct import Report
from model import Ending, ledger_state
from plan import Held, Plan
from remember import SAID_AGAIN_S
from targets import Target

LONG_WORK = 100  # runs from which on a terminal shows a progress bar
_SIZED = ("jobScript", "environment")

SECTIONS = ("start", "change", "stop", "held", "refused")


class Hourly(logging.Filter):
    """The same fault again is a warning hourly, not every minute. `said` outlives the pass in the state file.

    In between it is said as information, which -q leaves out: who looks must not be left without a reason.
    """

    def __init__(self, said: MutableMapping[str, int], now: int, quiet: bool) -> None:
        super().__init__()
        self._said, self._now, self._quiet = said, now, quiet

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        text = record.getMessage()
        if 0 <= self._now - self._said.get(text, 0) < SAID_AGAIN_S:
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = f"still so: {text}", ()
            return not self._quiet
        self._said[text] = self._now
        return True


@contextmanager
def said_hourly(said: MutableMapping[str, int], now: int, quiet: bool) -> Iterator[None]:
    """While it lasts, no handler repeats what was said within the hour."""
    hourly = Hourly(said, now, quiet)
    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(hourly)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(hourly)
        forget_said(said, now)


def forget_said(said: MutableMapping[str, int], now: int) -> None:
    for text in [text for text, at in said.items() if not 0 <= now - at < SAID_AGAIN_S]:
        del said[text]


def summary(report: Report) -> str:
    """One line: what was seen, and for each target what became of it."""
    parts = [f"{report.cluster}: {report.listed} jobs listed, {report.active} active"]
    if report.left_out or report.opted_out:
        parts.append(f"{report.left_out} left out, {report.opted_out} opted out")
    parts += [f"{target.name}: {_target_summary(target, report.dry_run)}" for target in report.targets]
    parts.append(f"{sum(report.seconds.values()):.1f} s")
    return " · ".join(parts)


def _target_summary(target: Target, dry_run: bool) -> str:
    if target.error is not None or (target.page_error is not None and target.ledger is None):
        return "failed"
    if dry_run:
        plan = target.plan
        would = {"start": plan.starts, "change": plan.changes, "stop": plan.stops, "hold": plan.held}
        return ", ".join(f"would {w} {len(runs)}" for w, runs in would.items() if runs) or "nothing to do"
    counts = {
        "started": target.applied.started,
        "changed": target.applied.changed,
        "stopped": target.applied.stopped,
        "held": len(target.plan.held),
        "refused": len(target.plan.refused) + target.applied.refused,
        "failed": target.applied.failed,
    }
    said = [f"{count} {word}" for word, count in counts.items() if count]
    return ", ".join([*said, *([target.published] if target.published else [])]) or "nothing to do"


def plan_json(report: Report) -> bytes:
    """The plan as one JSON object, in the form that the design fixes."""
    document = {
        "cluster": report.cluster,
        "now": report.now,
        "backends": {t.name: _plan_of(t) for t in report.targets if t.ledger is not None},
        "warnings": [*report.faults, *report.warnings],
        "listed": report.listed,
        "active": report.active,
        "leftOut": report.left_out,
        "optedOut": report.opted_out,
        "seconds": report.seconds,
    }
    # In ASCII: names are their owners', and the answer may be read on a terminal.
    return json.dumps(document, indent=2).encode()


def _plan_of(target: Target) -> dict[str, Any]:
    plan = target.plan
    return {
        "starts": [shown_body(start) for start in plan.starts],
        "changes": [
            {"jobId": c.key.job_id, "startTime": c.key.start_time, "jobState": c.state} for c in plan.changes
        ],
        "stops": [_stop_of(ending) for ending in plan.stops],
        "held": [_held_of(held) for held in plan.held],
        "refused": [_held_of(held) for held in plan.refused],
        "unsafe": plan.unsafe,
        "error": target.error,
    }


def _stop_of(ending: Ending) -> dict[str, Any]:
    return {
        "jobId": ending.key.job_id,
        "startTime": ending.key.start_time,
        "stopTime": ending.end_time,
        "jobState": ledger_state(ending.state),
        "evidence": ending.evidence,
    }


def _held_of(held: Held) -> dict[str, Any]:
    return {"jobId": held.key.job_id, "startTime": held.key.start_time, "reason": held.reason}


def shown_body(start: Start) -> dict[str, Any]:
    """The very body that would be sent, scripts and environments as `<N bytes>`."""
    body = dict(start.body)
    metadata = dict(body.get("metaData") or {})
    for name in _SIZED:
        if name in metadata:
            metadata[name] = f"<{len(metadata[name].encode('utf-8', 'replace'))} bytes>"
    return body | {"metaData": metadata} if metadata else body


def print_plan(report: Report) -> None:
    """A table for each ledger on stdout."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for target in report.targets:
        if target.ledger is None:
            console.print(
                f"{target.name}: a status page; it would be shown {report.listed} jobs", soft_wrap=True
            )
        elif target.error is not None:
            console.print(target.error, soft_wrap=True)
        else:
            _print_ledger(console, target)
    for warning in report.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)


def _print_ledger(console: Any, target: Target) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = list(plan_rows(target.plan))
    if not rows:
        console.print(f"{target.name}: nothing to do")
        return
    counts = ", ".join(f"{n} {word}" for word in SECTIONS if (n := sum(row[0] == word for row in rows)))
    table = Table(title=Text(f"{target.name}: {counts}"), box=box.SIMPLE, title_justify="left")
    for column in ("", "job", "start", "what"):
        table.add_column(column, overflow="fold")
    for row in rows:
        # As Text: a job's name is its owner's and must not be taken for markup.
        table.add_row(*(Text("".join(c if c.isprintable() else "?" for c in cell)) for cell in row))
    console.print(table)
    if target.plan.unsafe:
        console.print(target.plan.unsafe, soft_wrap=True)


def plan_rows(plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    for start in plan.starts:
        run, lies = start.run, start.placement
        what = f"{run.user}, {run.partition}, {run.node_list}, {lies.num_hwthreads} threads"
        what += f", {lies.num_acc} accelerators" if lies.num_acc else ""
        yield ("start", str(run.key.job_id), _clock(run.key.start_time), what)
    for change in plan.changes:
        yield ("change", str(change.key.job_id), _clock(change.key.start_time), change.state)
    for ending in plan.stops:
        what = f"{ledger_state(ending.state)} at {_clock(ending.end_time)} (by {ending.evidence})"
        yield ("stop", str(ending.key.job_id), _clock(ending.key.start_time), what)
    for word, helds in (("held", plan.held), ("refused", plan.refused)):
        for held in helds:
            yield (word, str(held.key.job_id), _clock(held.key.start_time), held.reason)


def _clock(at: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def progress(is_terminal: bool) -> Iterator[Callable[[int], Callable[[], None]]]:
    """A function that begins a bar of so many steps and gives one that advances it."""
    if not is_terminal:
        yield lambda total: lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:

        def begin(total: int) -> Callable[[], None]:
            if total < LONG_WORK:
                return lambda: None
            task = bar.add_task("runs", total=total)
            return lambda: bar.advance(task)

        yield begin
