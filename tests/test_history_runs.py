"""What becomes of runs, pass by pass: a ledger holds what ran, from its start to its reported end."""

from __future__ import annotations

import pytest
from fake_source import NOW, FakeSlurm
from histories import History

import sync

pytest_plugins = ["history_fixtures"]


def test_a_running_job_is_started_once_and_stopped_with_its_own_end(history: History) -> None:
    run = history.slurm.run(nodes="n2cn[001-002]")
    history.passes(3)
    assert history.ledger.told("start") == [str(run)]
    assert history.ledger.running() == {run}
    history.slurm.finish(run.job_id, "TIMEOUT")
    history.passes(3)
    assert history.ledger.told("stop") == [str(run)]
    assert history.ended(run) == ("TIMEOUT", NOW + 180, "squeue")


def test_a_job_missing_from_the_listing_is_kept_until_its_end_is_reported(history: History) -> None:
    run = history.slurm.run()
    history.passes(1)
    history.slurm.accounting = "lags"
    history.slurm.finish(run.job_id)
    end = history.slurm.clock
    history.slurm.purge(run.job_id)
    history.passes(5)
    assert history.ledger.running() == {run}
    assert history.plan()["held"] == [
        {
            "jobId": run.job_id,
            "startTime": run.start_time,
            "reason": "not in the listing, and no ending is reported",
        }
    ]
    history.slurm.accounting = "on"
    history.passes(1)
    assert history.ended(run) == ("COMPLETED", end, "sacct")


def test_an_empty_listing_stops_nothing(history: History) -> None:
    runs = {history.slurm.run() for _ in range(20)}
    history.passes(1)
    for run in runs:
        history.slurm.vanish(run.job_id)
    history.passes(30, every_s=3600)
    assert history.ledger.running() == runs
    assert history.ledger.told("stop") == []


def test_a_job_that_came_and_went_between_two_passes_is_in_the_ledger_with_both(history: History) -> None:
    history.passes(1)
    run = history.slurm.run()
    history.slurm.pass_by(20)
    history.slurm.finish(run.job_id, "FAILED")
    history.slurm.purge(run.job_id)
    history.passes(3)
    assert history.ended(run) == ("FAILED", NOW + 80, "sacct")
    assert history.ledger.told("start") == history.ledger.told("stop") == [str(run)]


def test_without_accounting_a_job_that_came_and_went_is_taken_from_the_listing(history: History) -> None:
    history.without_accounting()
    history.passes(1)
    run = history.slurm.run()
    history.slurm.pass_by(20)
    history.slurm.finish(run.job_id)
    history.passes(3)
    assert history.ended(run) == ("COMPLETED", NOW + 80, "squeue")


def test_completing_keeps_its_exact_run_alive_and_unchanged(history: History) -> None:
    run = history.slurm.run(nodes="n2cn[001-003]")
    history.passes(1)
    history.slurm.finish(run.job_id, "CANCELLED", completing=True)
    end = history.slurm.clock
    history.passes(2)
    history.slurm.entries[run.job_id].node_list = "n2cn003"  # two nodes are done already
    history.passes(2)
    assert history.ledger.running() == {run}
    assert history.ledger.runs[run].node_list == "n2cn[001-003]"
    assert history.held() == []
    history.slurm.turn(run.job_id, "CANCELLED")
    history.passes(1)
    assert history.ended(run) == ("CANCELLED", end, "squeue")


def test_a_run_first_seen_completing_starts_nothing_and_waits_for_its_ending(history: History) -> None:
    history.passes(1)
    run = history.slurm.run()
    history.slurm.finish(run.job_id, completing=True)
    history.passes(2)
    assert history.ledger.calls.count(f"start {run}") == 0
    history.slurm.turn(run.job_id, "COMPLETED")
    history.passes(2)
    assert history.ended(run) == ("COMPLETED", run.start_time, "sacct")


@pytest.mark.parametrize(("accounting", "evidence"), [("on", "sacct"), ("off", "squeue")])
def test_it_waits_however_long_its_epilog_lasts(history: History, accounting: str, evidence: str) -> None:
    history.slurm = FakeSlurm(accounting)
    history.passes(1)
    run = history.slurm.run()
    history.slurm.finish(run.job_id, completing=True)
    history.passes(5, every_s=3600)
    assert history.ledger.runs == {}
    assert history.part().completing == {str(run): NOW + 60 + 5 * 3600}
    history.slurm.turn(run.job_id, "COMPLETED")
    history.passes(1)
    assert history.ended(run) == ("COMPLETED", NOW + 60, evidence)
    assert history.part().completing == {}


def test_configuring_is_not_started_for_its_start_moves(history: History) -> None:
    job_id = history.slurm.submit()
    early = history.slurm.start(job_id)
    history.slurm.turn(job_id, "CONFIGURING")
    history.passes(3)
    assert history.ledger.told("start") == []
    late = history.slurm.start(job_id)
    history.passes(2)
    assert late.start_time > early.start_time
    assert history.ledger.running() == {late}
    assert history.ledger.told("start") == [str(late)]


@pytest.mark.parametrize("word", ["SUSPENDED", "STOPPED"])
def test_a_suspended_job_goes_on_running_in_the_ledger(history: History, word: str) -> None:
    run = history.slurm.run()
    history.passes(1)
    history.slurm.turn(run.job_id, word)
    history.passes(2)
    assert history.ledger.runs[run].state == "suspended"
    history.slurm.turn(run.job_id, "RUNNING")
    history.passes(2)
    assert history.ledger.runs[run].state == "running"
    assert history.ledger.told("change") == [str(run), str(run)]
    assert history.ledger.told("stop") == []


def test_a_suspended_job_that_is_new_is_started(history: History) -> None:
    run = history.slurm.run()
    history.slurm.turn(run.job_id, "SUSPENDED")
    history.passes(1)
    assert history.ledger.running() == {run}


def test_a_resized_run_stays_one_run_with_its_first_start(history: History) -> None:
    run = history.slurm.run(nodes="n2cn[001-004]")
    history.passes(1)
    history.slurm.resize(run.job_id, "n2cn[001-002]")
    history.passes(2)
    stored = history.ledger.runs[run]
    assert (stored.node_list, stored.cpus) == ("n2cn[001-002]", 8)
    history.slurm.finish(run.job_id)
    history.slurm.purge(run.job_id)
    history.passes(2)
    assert history.ended(run) == ("COMPLETED", NOW + 180, "sacct")
    assert list(history.ledger.runs) == [run]


def test_a_resized_run_that_came_and_went_is_joined_from_its_pieces(history: History) -> None:
    history.passes(1)
    run = history.slurm.run(nodes="n2cn[001-004]")
    history.slurm.pass_by(10)
    history.slurm.resize(run.job_id, "n2cn001")
    history.slurm.pass_by(10)
    history.slurm.finish(run.job_id)
    history.slurm.purge(run.job_id)
    history.passes(2)
    assert list(history.ledger.runs) == [run]
    assert history.ledger.runs[run].node_list == "n2cn[001-004]"
    assert history.ended(run) == ("COMPLETED", NOW + 80, "sacct")


def test_a_requeued_job_is_another_run_and_the_first_ends_as_cancelled(history: History) -> None:
    first = history.slurm.run()
    history.passes(1)
    history.slurm.requeue(first.job_id)
    end = history.slurm.clock
    history.passes(1)
    assert history.ended(first) == ("REQUEUED", end, "sacct")
    second = history.slurm.start(first.job_id, "n2cn002")
    history.passes(1)
    assert history.ledger.running() == {second}
    assert second.job_id == first.job_id
    plan = history.plan()
    assert (plan["starts"], plan["stops"]) == ([], [])


def test_a_job_requeued_and_started_again_between_two_passes_has_two_runs(history: History) -> None:
    first = history.slurm.run()
    history.passes(1)
    history.slurm.requeue(first.job_id)
    history.slurm.pass_by(5)
    second = history.slurm.start(first.job_id)
    history.passes(1)
    assert history.ended(first) == ("REQUEUED", NOW + 60, "sacct")
    assert history.ledger.running() == {second}


def test_what_accounting_calls_by_an_unknown_word_has_failed(history: History) -> None:
    run = history.slurm.run()
    history.passes(1)
    history.slurm.finish(run.job_id, "EATEN_BY_A_GRUE")
    history.slurm.purge(run.job_id)
    history.passes(0)
    (stop,) = history.plan()["stops"]
    assert (stop["jobState"], stop["evidence"]) == ("failed", "sacct")


def test_an_unknown_word_in_the_listing_proves_nothing_however_long_it_lasts(history: History) -> None:
    run, other = history.slurm.run(), history.slurm.run()
    history.passes(1)
    history.slurm.turn(run.job_id, "HIBERNATED")
    history.passes(40, every_s=3600)
    assert history.ledger.running() == {run, other}


def test_a_job_that_never_had_nodes_is_no_run(history: History) -> None:
    job_id = history.slurm.submit()
    entry = history.slurm.entries[job_id]
    entry.state, entry.start_time, entry.end_time = "CANCELLED", NOW, NOW
    history.passes(3)
    assert history.ledger.runs == {}


def test_a_start_in_the_future_is_an_expectation_and_no_run(history: History) -> None:
    run = history.slurm.run()
    history.slurm.entries[run.job_id].start_time = NOW + 3600
    history.passes(2)
    assert history.ledger.runs == {}


def test_an_array_task_and_a_component_are_runs_of_their_own(history: History) -> None:
    tasks = {history.slurm.run(array_job_id=9, array_task_id=task) for task in (0, 1)}
    parts = {history.slurm.run(het_job_id=90, het_offset=at) for at in (0, 1)}
    history.passes(1)
    assert history.ledger.running() == tasks | parts


def test_two_ledgers_each_get_what_they_lack(history: History) -> None:
    first = history.slurm.run()
    history.passes(1)
    late = history.add_ledger("late")
    second = history.slurm.run()
    history.passes(1)
    assert history.ledger.told("start") == [str(first), str(second)]
    assert late.told("start") == [str(first), str(second)]
    history.slurm.finish(first.job_id)
    history.slurm.purge(first.job_id)
    history.passes(1)
    assert history.ended(first) == history.ended(first, "late") == ("COMPLETED", NOW + 120, "sacct")


def test_a_ledger_that_is_down_does_not_keep_the_other_from_its_work(history: History) -> None:
    other = history.add_ledger("other")
    history.ledger.down = {"list": "no connection"}
    run = history.slurm.run()
    assert history.sync() == sync.FAULT
    assert "books: no connection" in history.err
    assert other.running() == {run}
    history.ledger.down = {}
    history.passes(1)
    assert history.ledger.running() == {run}
