"""Which questions a pass has for Slurm, from the listing and what its ledgers know. Pure.

How they are put, in as few commands as there are questions, is gather.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

import plan as planning
from backends.base import Ledger
from gather import Accounting
from model import ACTIVE, Job, RunKey
from plan import ASKED_A_PASS, Selection
from survey import View
from targets import Target

DETAILS_A_PASS = 2_000
AGAIN_A_PASS = 100  # of the ASKED_A_PASS runs that accounting is asked for by id

Ledgers = Sequence[tuple[Target, Ledger]]


def ids_for_details(ledgers: Ledgers, view: View, selection: Selection) -> set[int]:
    """Of runs that some ledger may have to start, oldest first, and of those that were resized."""
    in_turn = chain.from_iterable(zip_longest(*(selection.cut(target.wanted) for target, _ in ledgers)))
    # In turn: a ledger that cannot take its old runs must not keep the others from their new ones.
    wanted = dict.fromkeys(key for key in in_turn if key is not None)
    oldest = [*wanted][:DETAILS_A_PASS]
    resized = {
        key
        for target, ledger in ledgers
        if ledger.holds_changes
        for key, _, differs in planning.changed_runs(view, target.known)
        if differs
    }
    return {key.job_id for key in [*oldest, *sorted(resized)][:DETAILS_A_PASS]}


def runs_for_accounting(ledgers: Ledgers, selection: Selection, now: int) -> list[RunKey]:
    """Missing runs of all ledgers alike, longest unasked first, and among them some that are tried again."""
    asked_at: dict[RunKey, int] = {}
    for target, _ in ledgers:
        for key in target.missing:
            watched = target.part.watched.get(str(key))
            at = watched.asked_at if watched is not None else 0
            asked_at[key] = min(at, asked_at.get(key, at))
    missing = sorted(asked_at, key=lambda key: (asked_at[key], key))
    again = _in_rotation(sorted({key for target, _ in ledgers for key in target.retries}), now)
    ids = set(selection.ids())
    both = (*missing[: ASKED_A_PASS - AGAIN_A_PASS], *again, *missing[ASKED_A_PASS - AGAIN_A_PASS :])
    return [key for key in dict.fromkeys(both) if not selection.jobs or key.job_id in ids]


def _in_rotation(keys: list[RunKey], now: int) -> list[RunKey]:
    """Another part of them each minute: nothing notes when these were last asked for."""
    begin = now // 60 * AGAIN_A_PASS % max(1, len(keys))
    return (keys[begin:] + keys[:begin])[:AGAIN_A_PASS]


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


def what_is_known(name: str, jobs: Sequence[Job], view: View, accounting: Accounting) -> str:
    """In a few words, what Slurm says of a job that --jobid names: why it may be that nothing is done."""
    one = Selection(jobs=(name,))
    listed = [job for job in jobs if planning.wants_job(one, job)]
    if not listed:
        told = any(planning.wants_run(one, record) for record in accounting.whole.values())
        return "has ended, accounting tells" if told else "neither in the queue nor known to accounting"
    keys = {job.key for job in listed}
    if keys & view.opted_out:
        return "has opted out"
    if any(job.state in ACTIVE and job.key not in view.active for job in listed):
        return "left out by node_regex or ignore_hosts"
    return f"{', '.join(sorted({job.state for job in listed}))} in the queue"
