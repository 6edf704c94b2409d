"""How a ledger's memory changes with what a pass saw and did."""

from __future__ import annotations

from typing import Any

import pytest
from fake_source import NOW
from plan_data import job_of, key, view_of

import remember
from backends.base import Facts, KnownRun, Outcome, Verdict
from memory import Accepted, BackendMemory, Memory, Owed, Refusal, Stopped, Watched
from model import Ending
from remember import Silence

WEEK_S = 7 * 86400


def outcome(verdict: Verdict, **fields: Any) -> Outcome:
    return Outcome(key(1), verdict, "why", **fields)


# Last-seen times and silences


def watch(old: Watched, silence: Silence, now: int = NOW) -> Watched:
    part = BackendMemory(watched={str(key(1)): old})
    remember.watch(part, [key(1)], view_of(key(2)), silence, now)
    return part.watched[str(key(1))]


def test_an_alive_run_is_seen_and_its_silence_is_over() -> None:
    part = BackendMemory(watched={str(key(1)): Watched(5, 6, 7, 8, "9_3"), "4@4": Watched(5)})
    remember.watch(part, [key(1)], view_of(alive={key(1)}), Silence([], True), NOW)
    assert part.watched == {str(key(1)): Watched(NOW, task="9_3")}


def test_the_task_of_an_array_is_noted_for_its_entry_may_be_all_that_is_left() -> None:
    part = BackendMemory()
    view = view_of(key(1), key(2))
    view.active[key(2)] = job_of(key(2), array_job_id=9, array_task_id=3)
    remember.watch(part, [key(1), key(2)], view, Silence([], True), NOW)
    assert {name: w.task for name, w in part.watched.items()} == {str(key(1)): "", str(key(2)): "9_3"}


def test_silence_counts_from_one_good_pass_to_the_next() -> None:
    asked = Silence([key(1)], True)
    assert watch(Watched(5), asked) == Watched(5, NOW, NOW, 0)
    assert watch(Watched(5, 0, NOW - 60, 100), asked) == Watched(5, NOW, NOW, 160)


def test_a_long_gap_between_two_passes_counts_as_an_hour() -> None:
    assert watch(Watched(5, 0, NOW - 90_000, 100), Silence([key(1)], True)).missing_s == 3_700


def test_a_clock_that_was_set_back_adds_nothing() -> None:
    assert watch(Watched(5, 0, NOW + 60, 100), Silence([key(1)], True)) == Watched(5, NOW, NOW, 100)


def test_a_pass_whose_silence_means_nothing_breaks_the_chain() -> None:
    assert watch(Watched(5, 0, NOW - 60, 100), Silence([key(1)], False)) == Watched(5, NOW, 0, 100)
    assert watch(Watched(5, 7, NOW - 60, 100), Silence([], False)) == Watched(5, 7, 0, 100)


def test_a_run_whose_turn_to_be_asked_has_not_come_goes_on_being_silent() -> None:
    assert watch(Watched(5, 7, NOW - 60, 100), Silence([], True)) == Watched(5, 7, NOW - 60, 100)


def test_while_the_target_is_down_times_go_on_and_no_silence_counts() -> None:
    part = BackendMemory(watched={str(key(1)): Watched(5, 6, 7, 8), "4@4": Watched(5, 6, 7, 8)})
    remember.see_alive(part, view_of(key(1), key(2)))
    assert part.watched == {str(key(1)): Watched(NOW), "4@4": Watched(5, 6, 0, 8)}


# Outcomes


def test_an_accepted_start_is_noted_and_clears_what_was_held_against_the_run() -> None:
    name = str(key(1))
    part = BackendMemory(refused={name: Refusal("x", 1, 0)}, failing={name: 2})
    remember.note_start(part, outcome("done"), NOW)
    assert part == BackendMemory(accepted={name: Accepted(NOW)})


def test_an_accepted_stop_is_noted_and_clears_the_rest() -> None:
    name = str(key(1))
    part = BackendMemory(
        accepted={name: Accepted(5)},
        owed={name: Owed("FAILED", 6, "squeue")},
        refused={name: Refusal("x", 1, 0)},
        failing={name: 2},
    )
    remember.note_stop(part, Ending(key(1), "FAILED", 7, "sacct"), outcome("done"), NOW)
    assert part == BackendMemory(stopped={name: Stopped(7, NOW)})


@pytest.mark.parametrize(
    ("evidence", "owed"), [("squeue", 1), ("sacct", 1), ("requeued", 1), ("written off", 0)]
)
def test_a_stop_that_failed_stays_owed_unless_it_is_a_write_off(evidence: str, owed: int) -> None:
    part = BackendMemory()
    remember.note_stop(part, Ending(key(1), "FAILED", 7, evidence), outcome("failed"), NOW)
    assert (len(part.owed), part.stopped, part.refused) == (owed, {}, {})


def test_a_run_that_the_target_does_not_hold_is_unknown_again() -> None:
    part = BackendMemory(accepted={str(key(1)): Accepted(5)})
    remember.note_stop(part, Ending(key(1), "FAILED", 7, "sacct"), outcome("lost"), NOW)
    assert part == BackendMemory()


def test_refusals_are_tried_with_growing_distance_up_to_six_hours() -> None:
    part, waits = BackendMemory(), []
    for _ in range(10):
        remember.note_start(part, outcome("refused"), NOW)
        waits.append(part.refused[str(key(1))].next_try - NOW)
    assert waits == [120, 240, 480, 960, 1920, 3840, 7680, 15360, 21600, 21600]


def test_a_refusal_may_ask_to_be_tried_sooner() -> None:
    part = BackendMemory(refused={str(key(1)): Refusal("x", 9, 0)})
    remember.note_start(part, outcome("refused", retry_within_s=3_600), NOW)
    assert part.refused[str(key(1))] == Refusal("why", 10, NOW + 3_600, False, 0)


def test_a_final_refusal_is_marked_so() -> None:
    part = BackendMemory()
    remember.note_start(part, outcome("final"), NOW)
    assert part.refused[str(key(1))].final


def test_a_final_refusal_of_a_run_that_the_target_lists_is_dropped() -> None:
    part = BackendMemory(refused={str(key(n)): Refusal("x", 1, 0, final=n < 3) for n in (1, 2, 3)})
    remember.forget_disproved(part, [key(2), key(3), key(4)])
    assert set(part.refused) == {str(key(1)), str(key(3))}


def test_the_third_5xx_for_a_run_becomes_a_refusal() -> None:
    part = BackendMemory()
    silent, blamed = outcome("failed"), outcome("failed", blames_job=True)
    for _ in range(5):
        assert remember.blame(part, [silent], NOW) == []
    assert remember.blame(part, [blamed], NOW) == []
    assert remember.blame(part, [blamed], NOW) == []
    assert part.failing == {str(key(1)): 2}
    assert remember.blame(part, [blamed], NOW) == [outcome("refused", blames_job=True)]
    assert part.refused[str(key(1))].reason == "why"
    assert part.failing == {}


def test_endings_of_known_runs_stay_owed_until_they_are_accepted() -> None:
    part = BackendMemory(
        watched={str(key(n)): Watched(5) for n in (1, 2, 3)}, stopped={str(key(2)): Stopped(5, 5)}
    )
    words = ("squeue", "squeue", "written off", "squeue")
    remember.note_owed(part, [Ending(key(n), "FAILED", 9, e) for n, e in enumerate(words, 1)])
    assert part.owed == {str(key(1)): Owed("FAILED", 9, "squeue")}


def test_unknown_runs_that_are_completing_are_noted_unless_they_opted_out_or_are_refused() -> None:
    part = BackendMemory(refused={str(key(3)): Refusal("x", 1, 0)})
    view = view_of(completing={key(n) for n in (1, 2, 3, 4)}, opted_out={key(4)})
    remember.note_completing(part, view, [key(2)])
    assert part.completing == {str(key(1)): NOW}


# Tidying


def test_what_no_later_pass_can_need_is_let_go() -> None:
    part = BackendMemory(
        mark=NOW,
        accepted={"1@1": Accepted(NOW), "2@1": Accepted(NOW - 601), str(key(9)): Accepted(NOW)},
        stopped={
            "3@1": Stopped(NOW - 600, NOW - 9_999),
            "4@1": Stopped(5, NOW - 9_999),
            "5@1": Stopped(5, NOW),
        },
        refused={"6@1": Refusal("", 1, 0, seen_at=NOW - WEEK_S), str(key(8)): Refusal("", 1, 0, seen_at=5)},
        failing={"6@1": 1, str(key(8)): 2, str(key(9)): 2},
        owed={"6@1": Owed("FAILED", 1, "x"), str(key(9)): Owed("FAILED", 1, "x"), "1@1": Owed("", 1, "x")},
        completing={"1@1": NOW, "3@1": NOW, "7@1": NOW, "8@1": NOW - WEEK_S},
    )
    remember.tidy(part, [key(9)], [key(8)], "noctua", NOW)
    assert list(part.accepted) == ["1@1"]
    assert list(part.stopped) == ["3@1", "5@1"]
    assert part.refused == {str(key(8)): Refusal("", 1, 0, seen_at=NOW)}
    assert part.failing == {str(key(8)): 2, str(key(9)): 2}
    assert list(part.owed) == [str(key(9)), "1@1"]
    assert list(part.completing) == ["7@1"]


def test_another_identity_gets_a_part_of_its_own_and_the_same_one_keeps_its() -> None:
    memory = Memory(backends={"cc": BackendMemory("https://a#noctua", mark=5)})
    assert remember.part_for(memory, "cc", "https://a#noctua").mark == 5
    assert remember.part_for(memory, "cc", "https://b#noctua") == BackendMemory("https://b#noctua")
    assert memory.backends == {"cc": BackendMemory("https://b#noctua")}


def test_a_restored_target_keeps_its_identity_and_nothing_else() -> None:
    memory = Memory(backends={"cc": BackendMemory("https://a#noctua", mark=5, failing={"1@1": 1})})
    assert remember.forget(memory, "cc") == BackendMemory("https://a#noctua")
    assert memory.backends == {"cc": BackendMemory("https://a#noctua")}


def test_the_last_good_topology_serves_for_a_day() -> None:
    part = BackendMemory()
    remember.note_facts(part, Facts("1.5", saved={"a": 1}), NOW)
    remember.note_facts(part, Facts("1.5"), NOW + 50_000)
    assert remember.saved_facts(part, NOW + 86_400) == {"a": 1}
    assert remember.saved_facts(part, NOW + 86_401) is None


@pytest.mark.parametrize(
    ("failures", "failed_at", "pause_s"),
    [(2, NOW, 0), (3, NOW, 300), (9, NOW - 299, 1), (9, NOW - 300, 0), (9, NOW + 50, 0)],
)
def test_after_three_failures_slurm_is_left_in_peace_for_five_minutes(
    failures: int, failed_at: int, pause_s: int
) -> None:
    memory = Memory(slurm_failures=failures, slurm_failed_at=failed_at)
    assert remember.must_pause(memory, NOW) == pause_s


@pytest.mark.parametrize(
    ("interval_s", "published_at", "due"),
    [
        (0, NOW, True),
        (300, NOW - 295, True),
        (300, NOW - 294, False),
        (300, NOW + 1, True),
        (300, 0, True),
        (None, 0, False),
    ],
)
def test_a_page_is_shown_again_after_its_interval(
    interval_s: int | None, published_at: int, due: bool
) -> None:
    assert remember.is_due(BackendMemory(published_at=published_at), interval_s, NOW) is due


def test_opt_outs_are_remembered_for_as_long_as_accounting_may_tell_of_them() -> None:
    memory = Memory(opted_out={"1@1": NOW - WEEK_S - 86_400, "2@1": NOW - WEEK_S - 86_401})
    remember.note_opt_outs(memory, [key(3)], NOW, WEEK_S)
    assert memory.opted_out == {"1@1": NOW - WEEK_S - 86_400, str(key(3)): NOW}


def test_known_after_a_pass_is_what_was_known_and_accepted_but_for_what_was_stopped() -> None:
    part = BackendMemory(accepted={"3@1": Accepted(NOW)}, stopped={str(key(1)): Stopped(5, 5)})
    known = {key(1): KnownRun(), key(2): KnownRun("suspended")}
    after = remember.known_after(known, part, "noctua")
    assert after == {key(2): KnownRun("suspended"), key(3, 1): KnownRun()}
