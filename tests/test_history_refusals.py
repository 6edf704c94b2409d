"""What a target does not take: remembered with its reason, said once, tried again with growing distance."""

from __future__ import annotations

from itertools import pairwise

import pytest
from fake_ledger import Stored
from fake_source import NOW
from histories import History

import sync

pytest_plugins = ["history_fixtures"]

HOUR_S = 3600


def tries(history: History, passes: int, every_s: int) -> list[int]:
    """The seconds after which starts were tried in so many passes."""
    found = []
    for number in range(1, passes + 1):
        before = len(history.ledger.told("start"))
        history.sync(after_s=every_s)
        if len(history.ledger.told("start")) > before:
            found.append(number * every_s)
    return found


def test_a_refused_job_is_said_once_and_the_others_go_on(history: History) -> None:
    bad, good = history.slurm.run(), history.slurm.run()
    history.ledger.answer("start", bad.job_id, "refused", "user: empty")
    assert history.sync(after_s=60) == sync.FAULT
    assert f"books: start of {bad} refused: user: empty" in history.err
    assert history.ledger.running() == {good}
    assert history.sync(after_s=60) == sync.OK
    assert "refused:" not in history.err
    assert history.plan()["refused"] == [
        {"jobId": bad.job_id, "startTime": bad.start_time, "reason": "user: empty"}
    ]


def test_it_is_tried_again_with_growing_distance_up_to_six_hours(history: History) -> None:
    run = history.slurm.run()
    history.ledger.answer("start", run.job_id, "refused")
    found = tries(history, 120, 600)
    gaps = [b - a for a, b in pairwise(found)]
    assert found[0] == 600
    assert gaps == [600, 600, 600, 1200, 2400, 4200, 7800, 15600, 21600][: len(gaps)]
    assert len(gaps) >= 7


def test_an_unknown_host_is_tried_within_the_hour_for_clusters_are_extended(history: History) -> None:
    run = history.slurm.run()
    history.ledger.answer("start", run.job_id, "refused", "no subcluster", within_s=HOUR_S)
    found = tries(history, 60, 600)
    gaps = [b - a for a, b in pairwise(found)]
    assert max(gaps) == HOUR_S
    history.ledger.outcomes.clear()
    history.passes(6, 600)
    assert history.ledger.running() == {run}


def test_a_final_refusal_is_never_tried_again_and_its_stop_is_not_sent(history: History) -> None:
    run = history.slurm.run()
    history.ledger.answer("start", run.job_id, "final", "within a day of another run")
    assert history.sync(after_s=60) == sync.FAULT
    assert f"books: start of {run} refused, for good: within a day of another run" in history.err
    history.passes(30, HOUR_S)
    history.slurm.finish(run.job_id)
    history.passes(3)
    assert history.ledger.told("start") == [str(run)]
    assert history.ledger.told("stop") == []


def test_a_final_refusal_that_the_target_s_list_disproves_is_none(history: History) -> None:
    run = history.slurm.run()
    history.ledger.answer("start", run.job_id, "final")
    history.sync(after_s=60)
    history.ledger.outcomes.clear()
    history.ledger.runs[run] = Stored("running", "n2cn001", 4)
    history.slurm.finish(run.job_id)
    history.passes(1)
    assert history.ended(run) == ("COMPLETED", NOW + 60, "squeue")


def test_a_refused_run_that_came_and_went_is_not_stopped(history: History) -> None:
    history.passes(1)
    run = history.slurm.run()
    history.slurm.finish(run.job_id)
    history.ledger.answer("start", run.job_id, "refused")
    assert history.sync(after_s=60) == sync.FAULT
    assert history.ledger.told("stop") == []


def test_a_refused_run_that_has_ended_since_is_still_offered_when_its_time_comes(history: History) -> None:
    run = history.slurm.run()
    history.ledger.answer("start", run.job_id, "refused", within_s=HOUR_S)
    for _ in range(8):
        history.sync(after_s=600)
    history.slurm.finish(run.job_id)
    end = history.slurm.clock
    history.slurm.purge(run.job_id)
    for _ in range(20):
        history.sync(after_s=600)
    history.ledger.outcomes.clear()
    history.passes(7, 600)
    assert history.ended(run) == ("COMPLETED", end, "sacct")


def test_a_5xx_for_one_job_in_three_passes_in_which_others_succeed_is_a_refusal(history: History) -> None:
    bad = history.slurm.run()
    history.ledger.answer("start", bad.job_id, "failed", "500: no", blames=True)
    for _ in range(2):
        history.slurm.run()
        assert history.sync(after_s=60) == sync.FAULT
        assert history.part().refused == {}
    history.slurm.run()
    assert history.sync(after_s=60) == sync.FAULT
    assert f"books: {bad} is taken as refused: 500: no" in history.err
    assert history.part().refused[str(bad)].reason == "500: no"
    assert history.sync(after_s=60) == sync.OK
    assert history.part().mark == history.slurm.clock - 1


def test_passes_in_which_nothing_else_succeeds_blame_the_target(history: History) -> None:
    bad = history.slurm.run()
    history.ledger.answer("start", bad.job_id, "failed", "500: no", blames=True)
    for _ in range(10):
        assert history.sync(after_s=60) == sync.FAULT
    assert history.part().refused == {}
    assert history.part().failing == {}


def test_a_failure_without_an_answer_never_becomes_a_refusal(history: History) -> None:
    bad = history.slurm.run()
    history.ledger.answer("start", bad.job_id, "failed", "no answer within 10 s")
    for _ in range(6):
        history.slurm.run()
        assert history.sync(after_s=60) == sync.FAULT
    assert history.part().refused == {}
    history.ledger.outcomes.clear()
    history.passes(1)
    assert bad in history.ledger.running()


def test_a_stop_that_always_gets_a_5xx_becomes_a_refusal_too(history: History) -> None:
    run = history.slurm.run()
    history.passes(1)
    history.slurm.finish(run.job_id)
    history.slurm.purge(run.job_id)
    history.ledger.answer("stop", run.job_id, "failed", "500: no", blames=True)
    for _ in range(3):
        history.slurm.run()
        history.slurm.pass_by(86400)  # its end has left the window
        assert history.sync() == sync.FAULT
    assert history.part().refused[str(run)].reason == "500: no"
    assert history.sync(after_s=60) == sync.OK


def test_a_run_that_the_target_does_not_hold_when_it_is_stopped_is_started_again(history: History) -> None:
    run = history.slurm.run()
    history.ledger.lists_late = True
    history.passes(1)
    history.ledger.hidden.clear()  # lost on the target's side before it was ever listed
    history.slurm.finish(run.job_id)
    assert history.sync(after_s=60) == sync.FAULT
    assert f"books: stop of {run} failed: it does not hold this run" in history.err
    history.passes(1)
    assert history.ended(run) == ("COMPLETED", NOW + 60, "sacct")


def test_a_start_that_is_accepted_and_not_listed_yet_is_not_sent_again(history: History) -> None:
    history.ledger.lists_late = True
    run = history.slurm.run()
    history.passes(10)
    assert history.ledger.told("start") == [str(run)]
    history.ledger.commit()
    history.passes(10)
    assert history.ledger.told("start") == [str(run)]


def test_a_start_that_is_unlisted_for_ten_minutes_is_unknown_again(history: History) -> None:
    history.ledger.lists_late = True
    run = history.slurm.run()
    history.passes(1)
    history.ledger.hidden.clear()
    history.passes(10)
    assert history.ledger.told("start") == [str(run)]
    history.passes(1)
    assert history.ledger.told("start") == [str(run), str(run)]


def test_a_start_that_is_not_listed_yet_can_be_stopped(history: History) -> None:
    history.ledger.lists_late = True
    run = history.slurm.run()
    history.passes(1)
    history.slurm.finish(run.job_id)
    history.passes(1)
    assert history.ended(run) == ("COMPLETED", NOW + 60, "squeue")


@pytest.mark.parametrize("verb", ["list", "facts", "start", "stop", "ended"])
def test_what_concerns_the_target_ends_its_pass_and_no_job_is_refused(history: History, verb: str) -> None:
    old = history.slurm.run()
    history.passes(1)
    history.slurm.finish(old.job_id)
    new, gone = history.slurm.run(), history.slurm.run()
    history.slurm.finish(gone.job_id)
    history.slurm.purge(gone.job_id)
    history.ledger.down = {verb: "the token is refused (401)"}
    assert history.sync(after_s=60) == sync.FAULT
    assert history.err.count("books: the token is refused (401)") == 1
    assert history.part().refused == {}
    assert history.part().mark == NOW + 59
    history.ledger.down = {}
    history.passes(1)
    assert history.ledger.running() == {new}
    assert set(history.ledger.endings()) == {old, gone}


def test_last_seen_times_go_on_while_the_target_is_down(history: History) -> None:
    run = history.slurm.run()
    history.passes(1)
    history.ledger.down = {"list": "down"}
    history.sync(after_s=600)
    assert history.part().watched[str(run)].last_seen == NOW + 660
