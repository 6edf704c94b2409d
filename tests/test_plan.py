"""Known state + listing + endings + memory → what to do. Every value is passed in, nothing is read."""

from __future__ import annotations

import pytest
from fake_source import NOW
from hypothesis import given
from hypothesis import strategies as st
from plan_data import accounted, job_of, key, view_of

from backends.base import KnownRun
from memory import Accepted, BackendMemory, Owed, Refusal, Stopped, Watched
from model import Ending, RunKey
from plan import (
    Selection,
    changed_runs,
    endings_for,
    is_refused,
    known_runs,
    missing_runs,
    news,
    passed_by,
    unsafe_write_offs,
    wanted_starts,
    wants_job,
    was_restored,
    write_offs,
)

ALL = Selection()
DAY_S = 86400


def refusal(next_try: int, final: bool = False) -> Refusal:
    return Refusal("no", 1, next_try, final)


# What it knows


def test_what_it_accepted_a_moment_ago_is_known_though_it_does_not_list_it() -> None:
    part = BackendMemory(
        accepted={"1@100": Accepted(NOW - 600), "2@100": Accepted(NOW - 601), "3@100": Accepted(NOW)},
        stopped={"3@100": Stopped(NOW, NOW)},
    )
    listed = {key(9): KnownRun("suspended")}
    assert known_runs(listed, part, "noctua", NOW) == {
        key(9): KnownRun("suspended"),
        key(1, 100): KnownRun(),
    }


def test_what_it_accepted_in_the_far_future_is_unknown() -> None:
    part = BackendMemory(accepted={"1@100": Accepted(NOW + 5000)})
    assert known_runs({}, part, "noctua", NOW) == {}


def test_it_was_restored_if_it_lists_as_running_what_it_accepted_as_stopped() -> None:
    part = BackendMemory(stopped={str(key(1)): Stopped(NOW, NOW)})
    assert was_restored([key(2), key(1)], part)
    assert not was_restored([key(1, 5), key(2)], part)


# Starts


def test_starts_are_active_runs_that_it_does_not_know_in_order_of_start() -> None:
    view = view_of(key(3, 50), key(1, 70), key(2, 60), key(4, 50))
    assert wanted_starts(view, {key(2, 60)}, BackendMemory(), ALL, NOW) == [
        key(3, 50),
        key(4, 50),
        key(1, 70),
    ]


def test_what_has_ended_there_has_opted_out_or_is_refused_is_not_started() -> None:
    view = view_of(key(1), key(2), key(3), key(4), opted_out={key(2)})
    part = BackendMemory(
        stopped={str(key(1)): Stopped(NOW, NOW)},
        refused={str(key(3)): refusal(NOW + 1), str(key(4)): refusal(NOW)},
    )
    assert wanted_starts(view, {}, part, ALL, NOW) == [key(4)]


@pytest.mark.parametrize(
    ("next_try", "final", "refused"), [(NOW + 1, False, True), (NOW, False, False), (0, True, True)]
)
def test_a_refusal_holds_until_its_time_and_a_final_one_for_ever(
    next_try: int, final: bool, refused: bool
) -> None:
    part = BackendMemory(refused={str(key(1)): refusal(next_try, final)})
    assert is_refused(key(1), part, NOW) is refused
    assert not is_refused(key(1, 5), part, NOW)


# --jobid


@pytest.mark.parametrize(
    ("named", "wanted"),
    [
        *(((), True), (("12",), True), (("9",), True), (("9_3",), True), (("7", "9_3"), True)),
        *((("9_4",), False), (("1",), False), (("3",), False), (("9+3",), False)),
    ],
)
def test_jobid_means_a_task_by_its_id_its_array_or_its_number(named: tuple[str, ...], wanted: bool) -> None:
    task = job_of(key(12), array_job_id=9, array_task_id=3)
    assert wants_job(Selection(named), task) is wanted


@pytest.mark.parametrize(("named", "wanted"), [("11", True), ("10", True), ("10+1", True), ("10+0", False)])
def test_jobid_means_a_component_by_its_id_its_leader_or_its_offset(named: str, wanted: bool) -> None:
    component = job_of(key(11), het_job_id=10, het_offset=1)
    assert wants_job(Selection((named,)), component) is wanted


def test_accounting_is_asked_for_the_ids_that_jobid_names() -> None:
    assert Selection(("9_3", "9_4", "10+1", "7")).ids() == (7, 9, 10)


def test_a_mark_may_move_only_after_a_pass_over_all_jobs_in_both_directions() -> None:
    assert Selection(limit=1, force=True).is_whole
    assert not Selection(("1",)).is_whole
    assert not Selection(direction="stop").is_whole


# What is missing, and what came and went


def test_missing_are_known_runs_that_are_neither_alive_nor_ended_longest_unasked_first() -> None:
    view = view_of(key(1), ended={key(2): Ending(key(2), "FAILED", NOW, "squeue")})
    part = BackendMemory(
        watched={str(key(3)): Watched(NOW, asked_at=50), str(key(4)): Watched(NOW, asked_at=40)}
    )
    known = [key(number) for number in range(1, 6)]
    assert missing_runs(view, known, part) == [key(5), key(4), key(3)]


def test_news_are_ended_runs_of_which_neither_list_nor_memory_tells() -> None:
    part = BackendMemory(
        stopped={str(key(1)): Stopped(NOW, NOW)},
        refused={str(key(2)): refusal(NOW + 1), str(key(3)): refusal(NOW)},
    )
    ended = [key(number) for number in range(7)]
    assert news(ended, view_of(key(4)), {key(5)}, part, NOW) == [key(0), key(3), key(6)]


def test_passed_by_are_due_refusals_and_runs_that_were_completing_once_they_are_gone() -> None:
    part = BackendMemory(
        refused={"1@5": refusal(NOW), "2@5": refusal(NOW + 1), "3@5": refusal(0, True), "4@5": refusal(0)},
        completing={"5@5": NOW, "6@5": NOW},
    )
    assert passed_by(view_of(key(4, 5), key(6, 5)), {}, part, NOW) == [key(1, 5), key(5, 5)]
    assert passed_by(view_of(), {key(5, 5)}, part, NOW) == [key(1, 5), key(4, 5), key(6, 5)]


# Endings


def test_absence_is_no_evidence() -> None:
    assert endings_for([key(1)], view_of(key(2)), {}, BackendMemory(), {}) == {}


def test_the_listing_s_ending_comes_before_accounting_s_and_that_before_an_owed_one() -> None:
    squeue = Ending(key(1), "FAILED", NOW - 9, "squeue")
    part = BackendMemory(
        owed={str(key(n)): Owed("TIMEOUT", NOW - 7, "squeue") for n in (1, 2, 3)},
    )
    found = endings_for(
        [key(1), key(2), key(3)],
        view_of(ended={key(1): squeue}),
        {key(1): accounted(key(1)), key(2): accounted(key(2))},
        part,
        {},
    )
    assert found == {
        key(1): squeue,
        key(2): Ending(key(2), "COMPLETED", NOW - 10, "sacct"),
        key(3): Ending(key(3), "TIMEOUT", NOW - 7, "squeue"),
    }


def test_what_is_alive_does_not_end_whatever_accounting_or_the_memory_says() -> None:
    part = BackendMemory(owed={str(key(1)): Owed("FAILED", NOW, "squeue")})
    records = {key(1): accounted(key(1))}
    assert endings_for([key(1)], view_of(key(1)), records, part, {key(1): 0}) == {}


@pytest.mark.parametrize(
    ("state", "end_time", "is_ending"),
    [
        ("COMPLETED", NOW, True),
        ("REQUEUED", NOW, True),
        ("NO_SUCH_WORD", NOW, True),
        ("RESIZING", NOW, False),
        ("RUNNING", NOW, False),
        ("SUSPENDED", NOW, False),
        ("PENDING", NOW, False),
        ("COMPLETED", 0, False),
    ],
)
def test_an_accounting_record_is_an_ending_by_its_word_and_its_end(
    state: str, end_time: int, is_ending: bool
) -> None:
    records = {key(1): accounted(key(1), state, end_time)}
    assert bool(endings_for([key(1)], view_of(), records, BackendMemory(), {})) is is_ending


def test_a_record_of_the_same_id_with_another_start_ends_nothing() -> None:
    records = {key(1, NOW - 999): accounted(key(1, NOW - 999))}
    assert endings_for([key(1)], view_of(), records, BackendMemory(), {}) == {}


def seen(task: str = "") -> BackendMemory:
    return BackendMemory(watched={str(key(1)): Watched(NOW - 30, task=task)})


@pytest.mark.parametrize(
    ("over", "told_end", "end"), [(NOW + 1, 0, NOW - 30), (NOW - 20, NOW - 25, NOW - 25)]
)
def test_the_same_id_later_proves_a_run_over_if_nothing_else_tells(
    over: int, told_end: int, end: int
) -> None:
    found = endings_for([key(1)], view_of(over={1: over}), {}, seen(), {key(1): told_end})
    assert found == {key(1): Ending(key(1), "REQUEUED", end, "requeued")}


def test_its_own_start_an_earlier_one_or_another_id_proves_nothing() -> None:
    for over in ({1: NOW - 60}, {1: NOW - 99}, {2: NOW}):
        assert endings_for([key(1)], view_of(over=over), {}, seen(), {key(1): 0}) == {}


def test_a_run_that_was_never_seen_or_not_asked_for_is_not_proved_over() -> None:
    over = view_of(over={1: NOW})
    assert endings_for([key(1)], over, {}, BackendMemory(), {key(1): 0}) == {}
    assert endings_for([key(1)], over, {}, seen(), {}) == {}


@pytest.mark.parametrize(("tasks", "proved"), [("3-7%2", True), ("0,3", True), ("4-7", False), ("", False)])
def test_a_task_that_stands_among_its_array_s_waiting_ones_is_over(tasks: str, proved: bool) -> None:
    waiting = [job_of(key(9), array_job_id=9, array_tasks=tasks)]
    found = endings_for([key(1)], view_of(waiting=waiting), {}, seen("9_3"), {key(1): 0})
    assert bool(found) is proved


# Write-offs


def lost(run: RunKey, missing_s: int = DAY_S, last_seen: int = NOW - 5 * DAY_S) -> BackendMemory:
    return BackendMemory(watched={str(run): Watched(last_seen, missing_s=missing_s)})


def test_a_run_is_written_off_as_failed_when_it_was_last_seen() -> None:
    assert write_offs([key(1, 5)], lost(key(1, 5)), view_of(key(2)), DAY_S) == [
        Ending(key(1, 5), "FAILED", NOW - 5 * DAY_S, "written off")
    ]


def test_not_before_its_time_never_unseen_never_unclear_never_beside_an_empty_listing() -> None:
    run = key(1, 5)
    assert write_offs([run], lost(run, DAY_S - 1), view_of(key(2)), DAY_S) == []
    assert write_offs([run], lost(run, last_seen=0), view_of(key(2)), DAY_S) == []
    assert write_offs([run], BackendMemory(), view_of(key(2)), DAY_S) == []
    assert write_offs([run], lost(run), view_of(key(2), unclear={run}), DAY_S) == []
    assert write_offs([run], lost(run), view_of(), DAY_S) == []


@given(count=st.integers(0, 500), running=st.integers(0, 500), force=st.booleans())
def test_from_10_write_offs_up_more_than_a_tenth_is_unsafe(count: int, running: int, force: bool) -> None:
    unsafe = unsafe_write_offs("cc-backend", count, running, force)
    assert (unsafe is not None) == (not force and count >= 10 and count * 10 > running)


def test_what_is_unsafe_is_said_with_number_limit_and_way_out() -> None:
    assert unsafe_write_offs("cc-backend", 412, 430, False) == (
        "cc-backend: 412 of 430 runs would be written off (limit 10%); look at squeue and sacct, then --force"
    )


# Changes


def test_changes_are_other_states_and_other_resources_of_active_runs() -> None:
    view = view_of(*(key(number) for number in range(1, 7)))
    view.active[key(2)] = job_of(key(2), state="SUSPENDED")
    view.active[key(3)] = job_of(key(3), node_list="n2cn[001-002]", cpus=8)
    view.active[key(4)] = job_of(key(4), state="STOPPED", cpus=2)
    same = KnownRun("running", "n2cn001", 4)
    known = dict.fromkeys((key(1), key(2), key(3), key(4)), same)
    known[key(5)] = KnownRun("suspended", "n2cn001", 4)
    known[key(6)] = KnownRun("running")  # the ledger holds no node list, so nothing can be compared
    assert changed_runs(view, known) == [
        (key(2), "suspended", False),
        (key(3), "running", True),
        (key(4), "suspended", True),
        (key(5), "running", False),
    ]
