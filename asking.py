"""Which questions a pass has for Slurm, from the listing and what its ledgers know. Pure.

How they are put, in as few commands as there are questions, is gather.py's.
"""

from __future__ import annotations

from collections.abc import Sequence

import plan as planning
from backends.base import Ledger
from gather import Accounting
from model import RunKey
from plan import Selection
from survey import View
from targets import Target

DETAILS_A_PASS = 2_000

Ledgers = Sequence[tuple[Target, Ledger]]


def ids_for_details(ledgers: Ledgers, view: View, selection: Selection) -> set[int]:
    """Of runs that some ledger may have to start, oldest first, and of those that were resized."""
    wanted = {key for target, _ in ledgers for key in selection.cut(target.wanted)}
    oldest = sorted(wanted, key=lambda key: (key.start_time, key.job_id))[:DETAILS_A_PASS]
    resized = {
        key
        for target, ledger in ledgers
        if ledger.holds_changes
        for key, _, differs in planning.changed_runs(view, target.known)
        if differs
    }
    return {key.job_id for key in (*oldest, *resized)}


def runs_for_accounting(ledgers: Ledgers, selection: Selection) -> list[RunKey]:
    """Missing runs and refused ones that are due, of all ledgers alike: longest unasked first."""
    asked_at: dict[RunKey, int] = {}
    for target, _ in ledgers:
        for key in (*target.missing, *target.retries):
            watched = target.part.watched.get(str(key))
            at = watched.asked_at if watched is not None else 0
            asked_at[key] = min(at, asked_at.get(key, at))
    ids = set(selection.ids())
    wanted = (key for key in asked_at if not selection.jobs or key.job_id in ids)
    return sorted(wanted, key=lambda key: (asked_at[key], key))


def ended_runs(
    target: Target, view: View, accounting: Accounting, selection: Selection, has_accounting: bool
) -> dict[RunKey, int]:
    """Runs that ended in the ledger's window, that --jobid names, or that are tried again → their end."""
    retries, (since, until) = set(target.retries), target.window
    if not has_accounting:
        jobs = view.ended_jobs
        return {
            key: ending.end_time
            for key, ending in view.ended.items()
            if key in jobs
            and (ending.end_time >= since or key in retries)
            and planning.wants_job(selection, jobs[key])
        }
    whole = accounting.whole
    in_window = {k: r for k, r in accounting.pieces.items() if since <= r.end_time <= until}
    records = whole if selection.jobs else in_window | {k: whole[k] for k in retries if k in whole}
    return {
        key: record.end_time
        for key, record in records.items()
        if record.has_ended and planning.wants_run(selection, record)
    }
