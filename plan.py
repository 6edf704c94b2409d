"""What to do for a ledger: known state + listing + endings + memory → starts, changes, stops. Pure.

Absence is no evidence: a run is stopped only by an ending that Slurm reports for exactly this run, or
written off under a guard. Nothing here reads or writes; what was read is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

import msgspec

from backends.base import Change, KnownRun, Start
from memory import BackendMemory, Watched, key_of
from model import Ending, Job, RunKey, ledger_state
from slurm.accounting import Accounted
from slurm.queue import task_numbers
from survey import View

LISTED_WITHIN_S = 600  # a start that the target accepted and does not list by then is unknown again
ASKED_A_PASS = 500  # missing runs that accounting is asked for
SAFE_WRITE_OFFS = 9  # up to here no share is looked at
SAFE_SHARE = 0.1


class Selection(msgspec.Struct, frozen=True):
    """What the command line narrows a pass to."""

    jobs: tuple[str, ...] = ()  # 4711, 4711_3, 4711+1; empty: all
    limit: int | None = None
    direction: str = "both"
    force: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether a mark may move after this pass."""
        return not self.jobs and self.direction == "both"

    def wants(self, job_id: int, array: str, het: str, leader: int | None) -> bool:
        names = {str(job_id), array, het, array.partition("_")[0], str(leader or "")} - {""}
        return not self.jobs or bool(names & set(self.jobs))

    def ids(self) -> tuple[int, ...]:
        """The job ids that accounting can be asked for."""
        return tuple(sorted({int(re.split(r"[_+]", name)[0]) for name in self.jobs}))

    def cut(self, items: list[RunKey]) -> list[RunKey]:
        return items if self.limit is None else items[: self.limit]


class Held(msgspec.Struct, frozen=True):
    key: RunKey
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """All that is to be done for one ledger, and what is not, with the reason."""

    ledger: str
    starts: tuple[Start, ...] = ()
    changes: tuple[Change, ...] = ()
    stops: tuple[Ending, ...] = ()
    held: tuple[Held, ...] = ()
    refused: tuple[Held, ...] = ()
    unsafe: str | None = None  # why write-offs are refused
    error: str | None = None  # why the target could not be asked
    cut: bool = False  # a limit left work for later


def known_runs(
    running: Mapping[RunKey, KnownRun], part: BackendMemory, cluster: str, now: int
) -> dict[RunKey, KnownRun]:
    """What the ledger holds as running: what it lists, and what it accepted a moment ago."""
    known = dict(running)
    for name, accepted in part.accepted.items():
        if abs(now - accepted.at) <= LISTED_WITHIN_S and name not in part.stopped:
            known.setdefault(key_of(name, cluster), KnownRun())
    return known


def was_restored(running: Iterable[RunKey], part: BackendMemory) -> bool:
    """Whether it lists as running what it had accepted as stopped: an older backup stands there now."""
    return any(str(key) in part.stopped for key in running)


def wanted_starts(
    view: View, known: Collection[RunKey], part: BackendMemory, selection: Selection, now: int
) -> list[RunKey]:
    """Active runs that the ledger does not know and may be told of now, in order of start."""
    wanted = [
        key
        for key, job in view.active.items()
        if key not in known
        and str(key) not in part.stopped
        and key not in view.opted_out
        and not is_refused(key, part, now)
        and wants_job(selection, job)
    ]
    return sorted(wanted, key=lambda key: (key.start_time, key.job_id))


def wants_job(selection: Selection, job: Job) -> bool:
    array = f"{job.array_job_id}_{job.array_task_id}" if job.array_job_id else ""
    het = f"{job.het_job_id}+{job.het_offset}" if job.het_job_id else ""
    return selection.wants(job.job_id, array, het, job.het_job_id)


def wants_run(selection: Selection, record: Accounted) -> bool:
    run = record.run
    array = f"{run.array_job_id}_{run.array_task_id}" if run.array_job_id else ""
    het = f"{run.het_job_id}+{run.het_offset}" if run.het_job_id else ""
    return selection.wants(run.key.job_id, array, het, run.het_job_id)


def is_refused(key: RunKey, part: BackendMemory, now: int) -> bool:
    refusal = part.refused.get(str(key))
    return refusal is not None and (refusal.final or now < refusal.next_try)


def passed_by(view: View, known: Collection[RunKey], part: BackendMemory, now: int) -> list[RunKey]:
    """Unknown runs that have ended, and whose end the window may have passed by.

    They were refused and are to be tried again, or their epilog lasted: accounting has their end meanwhile.
    """
    names = [name for name, r in part.refused.items() if not r.final and r.next_try <= now]
    keys = {key_of(name, view.cluster) for name in (*names, *part.completing)}
    return sorted(key for key in keys if key not in view.alive and key not in known)


def missing_runs(view: View, known: Iterable[RunKey], part: BackendMemory) -> list[RunKey]:
    """Held as running and not in the listing: accounting is asked for these, longest unasked first."""
    missing = [key for key in known if key not in view.alive and key not in view.ended]
    return sorted(missing, key=lambda key: (part.watched.get(str(key), _NEVER).asked_at, key))


_NEVER = Watched(0)


def news(
    ended: Iterable[RunKey], view: View, known: Collection[RunKey], part: BackendMemory, now: int
) -> list[RunKey]:
    """Runs that ended, and of which neither the ledger's list nor the memory tells: came and went?"""
    found = [key for key in ended if _is_news(key, view, known, part, now)]
    return sorted(found, key=lambda key: (key.start_time, key.job_id))


def _is_news(key: RunKey, view: View, known: Collection[RunKey], part: BackendMemory, now: int) -> bool:
    return (
        key not in view.alive
        and key not in known
        and str(key) not in part.stopped
        and not is_refused(key, part, now)
    )


def endings_for(
    known: Iterable[RunKey],
    view: View,
    accounted: Mapping[RunKey, Accounted],
    part: BackendMemory,
    silences: Mapping[RunKey, int],
) -> dict[RunKey, Ending]:
    """An ending for each run of the ledger that has one: squeue's before accounting's.

    `silences`: missing runs that nothing is told of though it could be (all where there is no accounting).
    """
    found: dict[RunKey, Ending] = {}
    for key in known:
        if key in view.alive:
            continue
        ending = view.ended.get(key) or _accounted_ending(accounted.get(key)) or _owed(key, part)
        if ending is None and key in silences:
            ending = _over(key, view, part, silences[key])
        if ending is not None:
            found[key] = ending
    return found


def _accounted_ending(record: Accounted | None) -> Ending | None:
    if record is None or not record.has_ended:
        return None
    return Ending(record.key, record.run.state, max(record.end_time, record.key.start_time), "sacct")


def _owed(key: RunKey, part: BackendMemory) -> Ending | None:
    owed = part.owed.get(str(key))
    return None if owed is None else Ending(key, owed.state, owed.end_time, owed.evidence)


def _over(key: RunKey, view: View, part: BackendMemory, told_end: int) -> Ending | None:
    """The same id waits again or has a later start, so this run is over, whatever accounting lacks of it.

    It ended when it was last seen, or at `told_end`, the end of a record that has lost its start.
    """
    watched = part.watched.get(str(key))
    if watched is None or not watched.last_seen:
        return None
    if view.over.get(key.job_id, 0) <= key.start_time and not _task_waits(watched.task, view):
        return None
    end = told_end if key.start_time <= told_end <= view.read_at else 0
    return Ending(key, "REQUEUED", max(watched.last_seen, key.start_time, end), "requeued")


def _task_waits(task: str, view: View) -> bool:
    """A task that waits again stands in its array's entry, under the array's id."""
    array, _, number = task.partition("_")
    return any(
        str(job.array_job_id) == array and int(number) in task_numbers(job.array_tasks)
        for job in view.waiting
        if number and job.array_tasks
    )


def write_offs(
    missing: Iterable[RunKey], part: BackendMemory, view: View, orphan_after_s: int
) -> list[Ending]:
    """Runs of which nothing has told for long enough: failed, at the time they were last seen.

    Only those that this state file has seen active, and never while the listing has no active run.
    """
    if not view.active:
        return []
    lost: list[Ending] = []
    for key in (key for key in missing if key not in view.unclear):
        watched = part.watched.get(str(key), _NEVER)
        if watched.last_seen and watched.missing_s >= orphan_after_s:
            lost.append(Ending(key, "FAILED", max(watched.last_seen, key.start_time), "written off"))
    return lost


def suspected(missing: Iterable[RunKey], part: BackendMemory, orphan_after_s: int) -> int:
    """Runs on their way to be written off: asked for some at a time, they do not ripen together."""
    watched = (part.watched.get(str(key), _NEVER) for key in missing)
    return sum(bool(w.last_seen) and w.missing_s >= orphan_after_s // 2 for w in watched)


def unsafe_write_offs(ledger: str, lost: int, running: int, force: bool) -> str | None:
    """Why so many write-offs are refused; None: they may be done."""
    if force or lost <= SAFE_WRITE_OFFS or lost <= SAFE_SHARE * running:
        return None
    return (
        f"{ledger}: {lost} of {running} runs would be written off (limit {SAFE_SHARE:.0%});"
        " look at squeue and sacct, then --force"
    )


def changed_runs(view: View, known: Mapping[RunKey, KnownRun]) -> list[tuple[RunKey, str, bool]]:
    """Runs whose state or resources differ from what the ledger holds: (run, state, resources differ)."""
    found: list[tuple[RunKey, str, bool]] = []
    for key, job in view.active.items():
        held = known.get(key)
        if held is None or not held.node_list:
            continue
        state = ledger_state(job.state)
        resized = (held.node_list, held.cpus) != (job.node_list, job.cpus)
        if state != held.state or resized:
            found.append((key, state, resized))
    return sorted(found)
