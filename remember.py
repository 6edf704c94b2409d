"""How a ledger's memory changes with what a pass saw and did. Pure, but for the memory itself.

The mark is the moment up to which accounting is done with: it moves only when everything before it is
accepted, refused and remembered, or held.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from backends.base import Facts, KnownRun, Outcome
from memory import Accepted, BackendMemory, Memory, Owed, Refusal, Stopped, Watched, key_of
from model import Ending, RunKey
from plan import LISTED_WITHIN_S
from survey import View

OVERLAP_S = 600  # slurmdbd may lag
WINDOW_S = 86_400  # of accounting a pass
LONGEST_STEP_S = 3_600  # what one silence between two passes counts at most towards a write-off
KEEP_S = 3_600
KEEP_REFUSED_S = 604_800  # since Slurm last told of the run
KEEP_FACTS_S = 86_400
FIRST_RETRY_S = 120
LONGEST_RETRY_S = 21_600
BLAMED_PASSES = 3
SLURM_FAILURES = 3  # in a row, after which Slurm is asked every
SLURM_PAUSE_S = 300
SAID_AGAIN_S = 3_600
CRON_JITTER_S = 5  # cron is no metronome


class Silence(msgspec.Struct, frozen=True):
    """Which missing runs Slurm was asked for, and whether its silence counts towards a write-off.

    It counts where accounting answered and has no backlog; without accounting, where the listing was whole.
    """

    asked: Collection[RunKey]
    counts: bool


def is_due(part: BackendMemory, interval_s: int | None, now: int) -> bool:
    """Whether a status page is to be shown again; None: it shows nothing."""
    since_s = now - part.published_at
    # A clock that was set back must not silence a page.
    return interval_s is not None and (since_s >= interval_s - CRON_JITTER_S or since_s < 0)


def part_for(memory: Memory, name: str, identity: str) -> BackendMemory:
    """The backend's part; a new one where another target stands behind the name now."""
    part = memory.backends.get(name)
    if part is None or part.identity != identity:
        part = BackendMemory(identity=identity)
        memory.backends[name] = part
    return part


def forget(memory: Memory, name: str) -> BackendMemory:
    """Begin a part anew: the target was restored from an older backup."""
    memory.backends[name] = BackendMemory(identity=memory.backends[name].identity)
    return memory.backends[name]


def window(part: BackendMemory, running: Iterable[RunKey], now: int, catch_up_max_s: int) -> tuple[int, int]:
    """[since, until] of accounting for this ledger.

    Without a mark, or with one in the future: from the oldest start that it lists as running; an empty
    target begins now. Never further back than `catch_up_max_s`.
    """
    mark = part.mark
    if mark is None or mark > now:
        mark = min((key.start_time for key in running), default=now)
    mark = min(max(mark, now - catch_up_max_s), now)
    return mark - OVERLAP_S, min(now, mark + WINDOW_S)


def merge_windows(windows: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping windows of several ledgers are one question."""
    merged: list[tuple[int, int]] = []
    for since, until in sorted(windows):
        if merged and since <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until))
        else:
            merged.append((since, until))
    return merged


def begin_mark(part: BackendMemory, since: int, read_at: int) -> None:
    """The first look back stands from the first pass on, whole or not: else its "now" would creep on."""
    if part.mark is None:
        part.mark = min(since + OVERLAP_S, read_at - 1)


def move_mark(part: BackendMemory, until: int, read_at: int) -> None:
    """To the end of what was read, at most to the moment before the listing; never back."""
    target = min(until, read_at - 1)
    part.mark = target if part.mark is None or part.mark > read_at else max(part.mark, target)


def watch(
    part: BackendMemory,
    known: Collection[RunKey],
    view: View,
    silence: Silence,
    now: int,
) -> None:
    """Note when each known run was last seen, and how long Slurm has not told of the missing ones."""
    before, part.watched = part.watched, {}
    for key in known:
        old = before.get(str(key), Watched(0))
        new = _seen(old, key, view) if key in view.alive else _unseen(old, key in silence.asked, silence, now)
        part.watched[str(key)] = new


def _seen(old: Watched, key: RunKey, view: View) -> Watched:
    job = view.active.get(key)
    task = f"{job.array_job_id}_{job.array_task_id}" if job is not None and job.array_job_id else old.task
    return Watched(view.read_at, task=task)


def _unseen(old: Watched, asked: bool, silence: Silence, now: int) -> Watched:
    """Not asked this time, for others had waited longer: its silence goes on."""
    if not silence.counts:
        return msgspec.structs.replace(old, good_at=0, asked_at=now if asked else old.asked_at)
    if not asked:
        return old
    step = min(now - old.good_at, LONGEST_STEP_S) if 0 < old.good_at <= now else 0
    return msgspec.structs.replace(old, asked_at=now, good_at=now, missing_s=old.missing_s + step)


def see_alive(part: BackendMemory, view: View) -> None:
    """The target could not be asked, nor Slurm for its missing runs: last-seen times go on all the same."""
    alive = {str(key): key for key in view.alive}
    for name, watched in part.watched.items():
        if name in alive:
            part.watched[name] = _seen(watched, alive[name], view)
        else:
            watched.good_at = 0


def note_owed(part: BackendMemory, endings: Iterable[Ending]) -> None:
    """Endings of known runs that the target has not accepted yet: squeue forgets them within minutes."""
    for ending in endings:
        if str(ending.key) in part.watched and str(ending.key) not in part.stopped:
            _owe(part, ending)


def note_completing(part: BackendMemory, view: View, known: Collection[RunKey]) -> None:
    """A run first seen completing waits for its ending, and the mark may pass that by meanwhile."""
    for key in view.completing:
        if key not in known and key not in view.opted_out and str(key) not in part.refused:
            part.completing[str(key)] = view.read_at


def _owe(part: BackendMemory, ending: Ending) -> None:
    """A write-off is no report of Slurm's: it is weighed anew in each pass."""
    if ending.evidence != "written off":
        part.owed[str(ending.key)] = Owed(ending.state, ending.end_time, ending.evidence)


def note_ended(part: BackendMemory, key: RunKey, end_time: int, now: int) -> None:
    """The target holds it as ended: it need not be asked again."""
    part.stopped[str(key)] = Stopped(end_time, now)
    part.accepted.pop(str(key), None)


def forget_disproved(part: BackendMemory, running: Iterable[RunKey]) -> None:
    """A run that the target lists was not refused for good, though it seemed so: it must be stopped, too."""
    for name in map(str, running):
        if name in part.refused and part.refused[name].final:
            del part.refused[name]


def saved_facts(part: BackendMemory, now: int) -> dict[str, Any] | None:
    """The last good copy of a target's topology, for a day."""
    return part.facts if now - part.facts_at <= KEEP_FACTS_S else None


def note_facts(part: BackendMemory, facts: Facts, now: int) -> None:
    if facts.saved is not None:
        part.facts, part.facts_at = facts.saved, now


def note_start(part: BackendMemory, outcome: Outcome, now: int) -> None:
    name = str(outcome.key)
    if outcome.verdict == "done":
        part.accepted[name] = Accepted(now)
        part.refused.pop(name, None)
        part.failing.pop(name, None)
    else:
        _note_refusal(part, outcome, now)


def note_stop(part: BackendMemory, ending: Ending, outcome: Outcome, now: int) -> None:
    name = str(outcome.key)
    if outcome.verdict == "done":
        part.stopped[name] = Stopped(ending.end_time, now)
        for place in (part.accepted, part.owed, part.refused, part.failing):
            place.pop(name, None)
        return
    if outcome.verdict == "lost":
        part.accepted.pop(name, None)
        return
    _owe(part, ending)
    _note_refusal(part, outcome, now)


def _note_refusal(part: BackendMemory, outcome: Outcome, now: int) -> None:
    """A 5xx for one run in several passes in which others succeeded is a refusal, too (is_blamed)."""
    if outcome.verdict == "failed":
        return
    name = str(outcome.key)
    tries = part.refused[name].tries + 1 if name in part.refused else 1
    wait_s = min(FIRST_RETRY_S * 2 ** (tries - 1), outcome.retry_within_s or LONGEST_RETRY_S)
    seen_at = part.refused[name].seen_at if name in part.refused else now
    part.refused[name] = Refusal(outcome.reason, tries, now + wait_s, outcome.verdict == "final", seen_at)
    part.failing.pop(name, None)


def blame(part: BackendMemory, outcomes: Iterable[Outcome], now: int) -> list[Outcome]:
    """Turn a run's third 5xx, in passes in which others succeeded, into a refusal; give those."""
    found: list[Outcome] = []
    for outcome in outcomes:
        if outcome.verdict != "failed" or not outcome.blames_job:
            continue
        name = str(outcome.key)
        part.failing[name] = part.failing.get(name, 0) + 1
        if part.failing[name] >= BLAMED_PASSES:
            refusal = msgspec.structs.replace(outcome, verdict="refused")
            _note_refusal(part, refusal, now)
            found.append(refusal)
    return found


def tidy(
    part: BackendMemory,
    running: Collection[RunKey],
    told_of: Collection[RunKey],
    cluster: str,
    now: int,
) -> None:
    """Let go of what no later pass can need. `told_of`: the runs that Slurm told of in this pass."""
    listed = {str(key) for key in running}
    told = {str(key) for key in told_of}
    since = (part.mark if part.mark is not None else now) - OVERLAP_S
    part.accepted = {
        n: a for n, a in part.accepted.items() if n not in listed and now - a.at <= LISTED_WITHIN_S
    }
    part.stopped = {n: s for n, s in part.stopped.items() if s.end_time >= since or now - s.at < KEEP_S}
    for name, refusal in part.refused.items():
        if name in told:
            refusal.seen_at = now
    part.refused = {n: r for n, r in part.refused.items() if now - r.seen_at < KEEP_REFUSED_S}
    part.completing = {
        n: at
        for n, at in part.completing.items()
        if now - at < KEEP_REFUSED_S and not any(n in p for p in (part.stopped, part.accepted, part.refused))
    }
    part.failing = {n: c for n, c in part.failing.items() if n in told | listed | part.refused.keys()}
    part.owed = {n: o for n, o in part.owed.items() if n in listed or n in part.accepted}


def note_opt_outs(memory: Memory, opted_out: Iterable[RunKey], now: int, keep_s: int) -> None:
    """Remembered for the run, as long as accounting may still tell of it."""
    for key in opted_out:
        memory.opted_out[str(key)] = now
    memory.opted_out = {n: at for n, at in memory.opted_out.items() if now - at <= keep_s + WINDOW_S}


def must_pause(memory: Memory, now: int) -> int:
    """Seconds that Slurm is left in peace after failures in a row; 0: ask it."""
    if memory.slurm_failures < SLURM_FAILURES or memory.slurm_failed_at > now:  # a clock that was set back
        return 0
    return max(0, memory.slurm_failed_at + SLURM_PAUSE_S - now)


def known_after(
    known: Mapping[RunKey, KnownRun], part: BackendMemory, cluster: str
) -> dict[RunKey, KnownRun]:
    """What the ledger holds as running once the pass has applied its plan."""
    held = {key: run for key, run in known.items() if str(key) not in part.stopped}
    return held | {key_of(name, cluster): KnownRun() for name in part.accepted}
