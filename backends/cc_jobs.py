"""Bodies of starts and stops as each generation of cc-backend takes them, and what a refusal means. Pure."""

from __future__ import annotations

from typing import Any

from backends.base import Outcome, TargetError, render_job
from backends.cc_client import Reply
from model import Ending, Placement, Run, RunKey, ledger_state

HOUR_S = 3_600

_OLD_STATES = frozenset({"completed", "failed", "cancelled", "timeout", "preempted", "out_of_memory"})
_EXCLUSIVE = {"multi_user": 0, "none": 1, "single_user": 2}
_NEW_FIELDS = ("shared", "submitTime", "requestedMemory")  # from 1.5
_TOO_LARGE = 413  # says the proxy before it


def render_start(run: Run, placement: Placement, generation: str) -> dict[str, Any]:
    body = render_job(run, placement)
    if generation != "1.5":
        exclusive = _EXCLUSIVE[run.sharing]
        body = {k: v for k, v in body.items() if k not in _NEW_FIELDS} | {"exclusive": exclusive}
    return body


def render_stop(ending: Ending, generation: str) -> dict[str, Any]:
    """Up to 1.4 a run must end a second after its start, and fewer words are known."""
    key, state = ending.key, ledger_state(ending.state)
    stop_time = max(ending.end_time, key.start_time)
    if generation != "1.5":
        stop_time = max(stop_time, key.start_time + 1)
        state = state if state in _OLD_STATES else "failed"
    return {
        "jobId": key.job_id,
        "cluster": key.cluster,
        "startTime": key.start_time,
        "stopTime": stop_time,
        "jobState": state,
    }


def judge_start(key: RunKey, reply: Reply) -> Outcome:
    """Of an answer other than 201 and 422. Raise TargetError where it concerns the target."""
    said = reply.said()
    if reply.status == 400:
        return _judge_bad_start(key, said)
    if reply.status >= 500 and "UNIQUE constraint failed" in said:
        return Outcome(key, "done")  # 1.5: it lies in the cache table; the first answer was lost
    if reply.status >= 500 or reply.status == _TOO_LARGE:
        return Outcome(key, "refused", said or f"{reply.status}: too large")
    raise TargetError(f"its route for starts answers {reply.status}: {said}")


def _judge_bad_start(key: RunKey, said: str) -> Outcome:
    if "no such cluster" in said or "unknown cluster" in said:
        raise TargetError(said)
    if "unknown field" in said:
        raise TargetError(f"it is of another version than it seemed ({said}); set `version`, or correct it")
    if "no subcluster found" in said:
        return Outcome(key, "refused", said, retry_within_s=HOUR_S)  # clusters are extended
    return Outcome(key, "refused", said or "400")


def judge_conflict(key: RunKey, state: str | None) -> Outcome:
    """422 answers a run that it holds already, and one that its day rule refuses: its list tells.

    `state`: in which it lists the run; None: not at all. A site may let it end runs by their walltime.
    """
    if state is None:
        return Outcome(key, "final", "cc-backend holds another run of this job id within a day of it")
    if state == "running":
        return Outcome(key, "done")
    return Outcome(key, "final", f"cc-backend holds this run as {state} already")


def is_refused_stop(reply: Reply) -> bool:
    """A 404 that does not say so concerns the route."""
    if reply.status == 404:
        return "finding job failed" in reply.said()
    return reply.status in (400, 422) or reply.status >= 500


def judge_stop(key: RunKey, state: str | None, said: str) -> Outcome:
    """It has ended already, or is not there, or is really refused: its list tells."""
    if state is None:
        return Outcome(key, "lost", f"it does not hold this run: {said}")
    return Outcome(key, "refused", said) if state == "running" else Outcome(key, "done")
