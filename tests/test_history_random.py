"""Histories that nobody thought of: whatever happened, good passes afterwards make the ledger true.

Jobs run, suspend, resize, requeue, end and vanish from the listing, while accounting lags or fails, the
target is down, refuses to answer for single jobs, or the pass is killed before it could save its memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_ledger import STORES, Store
from fake_source import FakeSlurm
from histories import History
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sync
from slurm.accounting import whole_runs

pytest_plugins = ["history_fixtures"]

Verb = Callable[[FakeSlurm, int], object]

ENDED = ("COMPLETED", "FAILED", "TIMEOUT")
RUNNING: dict[str, Verb] = {  # what may become of a running job
    "finish": lambda slurm, job: slurm.finish(job),
    "fail": lambda slurm, job: slurm.finish(job, "FAILED"),
    "complete": lambda slurm, job: slurm.finish(job, "TIMEOUT", completing=True),
    "requeue": lambda slurm, job: slurm.requeue(job),
    "resize": lambda slurm, job: slurm.resize(job, "n2cn001"),
    "suspend": lambda slurm, job: slurm.turn(job, "SUSPENDED"),
    "resume": lambda slurm, job: slurm.turn(job, "RUNNING"),
}
OTHERS: dict[str, Verb] = {
    "run": lambda slurm, job: slurm.run("n2cn[001-003]"),
    "flash": lambda slurm, job: slurm.flash(),
    "start": lambda slurm, job: for_each(slurm, ("PENDING",), slurm.start),
    "purge": lambda slurm, job: for_each(slurm, ENDED, slurm.purge),
    "epilog": lambda slurm, job: for_each(slurm, ("COMPLETING",), lambda j: slurm.turn(j, "TIMEOUT")),
    "accounting": lambda slurm, job: setattr(slurm, "accounting", ("on", "lags", "fails")[job % 3]),
}
PASSES = (
    "pass",
    "pass",
    "pass",
    "target down",
    "job fails",
    "killed",
    "listing fails",
    "late list",
    "limited",
)
WORDS = (*RUNNING, *OTHERS, "run", "flash", "flash", "accounting", *PASSES)
STEPS = st.tuples(st.sampled_from(WORDS), st.integers(0, 5))


def for_each(slurm: FakeSlurm, states: tuple[str, ...], verb: Callable[[int], object]) -> None:
    for job_id in [job_id for job_id, entry in slurm.entries.items() if entry.state in states]:
        verb(job_id)


def step(history: History, word: str, number: int) -> None:
    slurm = history.slurm
    slurm.pass_by(1)
    active = [j for j, e in slurm.entries.items() if e.state in ("RUNNING", "SUSPENDED")]
    if word in OTHERS:
        OTHERS[word](slurm, number)
    elif word in RUNNING and active:
        RUNNING[word](slurm, active[number % len(active)])
    elif word in PASSES:
        play_pass(history, word, number)


def play_pass(history: History, word: str, number: int) -> None:
    ledger = history.ledger
    if word == "target down":
        ledger.down = {("list", "start", "stop", "ended", "facts", "change")[number]: "down"}
    if word == "job fails":
        for verb in ("start", "stop"):
            ledger.answer(verb, 4711 + number, "failed")
    if word == "listing fails":
        history.slurm.broken = {"listing"}
    ledger.lists_late = word == "late list"
    before = history.state_file.read_bytes() if history.state_file.exists() else None
    after_s = (60, 700, 60, 1500, 60, 4000)[number]  # more than the overlap of accounting's windows, too
    history.sync(*(("--limit", "1") if word == "limited" else ()), after_s=after_s)
    if word == "killed" and before is not None:
        history.state_file.write_bytes(before)
    ledger.down, ledger.outcomes, history.slurm.broken = {}, {}, set()
    if number % 2:
        ledger.commit()


def settle(history: History) -> None:
    """All is well again, and time goes by."""
    history.slurm.accounting = "on"
    OTHERS["epilog"](history.slurm, 0)
    history.ledger.lists_late = False
    history.ledger.commit()
    for after_s in (1500, *(400,) * 7):
        history.sync(after_s=after_s)


def assert_true(history: History) -> None:
    listed = [e for e in history.slurm.entries.values() if e.state in ("RUNNING", "SUSPENDED")]
    held = history.ledger.runs
    assert {k: s.state for k, s in held.items() if s.end_time is None} == {
        history.slurm.key(e.job_id): "running" if e.state == "RUNNING" else "suspended" for e in listed
    }
    ended = whole_runs(r for r in history.slurm.records)
    assert {k: (s.state, s.end_time) for k, s in held.items() if s.end_time is not None} == {
        r.key: (r.run.state, r.end_time) for r in ended if r.has_ended
    }


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=5, max_size=30))
def test_whatever_happened_good_passes_make_the_ledger_true(
    history: History, tmp_path: Path, steps: list[tuple[str, int]]
) -> None:
    history.slurm = FakeSlurm()
    history.ledger = STORES["books"] = Store()  # hypothesis makes no new fixture for each example
    history.state_file.unlink(missing_ok=True)
    history.passes(1)  # an empty target's history begins here
    for word, number in steps:
        step(history, word, number)
    settle(history)
    assert_true(history)
    calls = len(history.ledger.told("start")) + len(history.ledger.told("stop"))
    assert history.sync(after_s=60) == sync.OK
    assert len(history.ledger.told("start")) + len(history.ledger.told("stop")) == calls


def test_the_steps_reach_what_they_are_meant_to_reach(history: History) -> None:
    """So that the test above does not pass for want of trouble."""
    for word in ("run", "run", "pass", "requeue", "start", "suspend", "late list", "finish", "purge", "pass"):
        step(history, word, 0)
    settle(history)
    assert_true(history)
    assert len(history.ledger.runs) == 3
    assert len(history.ledger.endings()) == 2


@pytest.mark.parametrize("word", PASSES)
def test_every_kind_of_pass_can_be_played(history: History, word: str) -> None:
    for number in range(6):
        step(history, "run", 0)
        step(history, word, number)
    settle(history)
    assert_true(history)
    assert len(history.ledger.runs) == 6
