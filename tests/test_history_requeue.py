"""Runs that are over though no ending is reported: the same id, or array task, waits again or runs anew."""

from __future__ import annotations

import pytest
from fake_source import NOW
from histories import History

pytest_plugins = ["history_fixtures"]


@pytest.fixture
def bare(history: History) -> History:
    """A cluster without accounting."""
    history.without_accounting()
    return history


def test_the_same_id_waiting_again_ends_the_run_when_it_was_last_seen(bare: History) -> None:
    run = bare.slurm.run()
    bare.passes(3)
    bare.slurm.requeue(run.job_id)
    bare.passes(1)
    assert bare.ended(run) == ("REQUEUED", NOW + 180, "requeued")


@pytest.mark.parametrize("word", ["RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "COMPLETED"])
def test_the_same_id_with_a_later_start_ends_the_run_before(bare: History, word: str) -> None:
    first = bare.slurm.run()
    bare.passes(3)
    bare.slurm.requeue(first.job_id)
    bare.slurm.pass_by(30)
    bare.slurm.start(first.job_id)
    if word == "COMPLETED":
        bare.slurm.finish(first.job_id)
    bare.slurm.turn(first.job_id, word)
    bare.passes(1)
    assert bare.ended(first) == ("REQUEUED", NOW + 180, "requeued")


def test_an_array_task_that_waits_again_within_its_arrays_entry_ends_the_run(bare: History) -> None:
    bare.slurm.submit(9, array_job_id=9, array_tasks="4-6%2")
    run = bare.slurm.run(job_id=12, array_job_id=9, array_task_id=3)
    other = bare.slurm.run(job_id=13, array_job_id=9, array_task_id=2)
    bare.passes(2)
    bare.slurm.purge(12)  # squeue shows a requeued task within the array's entry
    bare.slurm.entries[9].array_tasks = "3-6%2"
    bare.passes(1)
    assert bare.ended(run) == ("REQUEUED", NOW + 120, "requeued")
    assert bare.ledger.running() == {other}


def test_the_task_of_another_array_proves_nothing(bare: History) -> None:
    bare.slurm.submit(90, array_job_id=90, array_tasks="3-6")
    run = bare.slurm.run(job_id=12, array_job_id=9, array_task_id=3)
    bare.passes(2)
    bare.slurm.vanish(12)
    bare.passes(3)
    assert bare.ledger.running() == {run}


def test_a_run_that_this_state_file_never_saw_is_not_ended_so(bare: History) -> None:
    run = bare.slurm.run()
    bare.passes(1)
    bare.slurm.requeue(run.job_id)
    bare.state_file.unlink()
    bare.passes(3)
    assert bare.ledger.running() == {run}
    assert bare.held() == [run.job_id]


def test_with_accounting_its_word_is_waited_for(history: History) -> None:
    run = history.slurm.run()
    history.passes(2)
    history.slurm.accounting = "lags"
    history.slurm.requeue(run.job_id)
    end = history.slurm.clock
    history.passes(3)
    assert history.ledger.running() == {run}
    history.slurm.accounting = "on"
    history.passes(1)
    assert history.ended(run) == ("REQUEUED", end, "sacct")


def test_a_run_whose_record_accounting_has_lost_ends_when_it_waits_again(history: History) -> None:
    run = history.slurm.run()
    history.passes(2)
    history.slurm.requeue(run.job_id)
    history.slurm.forget(run.job_id)
    history.passes(1)
    assert history.ended(run) == ("REQUEUED", NOW + 120, "requeued")


def test_nothing_is_ended_so_while_accounting_fails(history: History) -> None:
    run = history.slurm.run()
    history.passes(2)
    history.slurm.requeue(run.job_id)
    history.slurm.forget(run.job_id)
    history.slurm.accounting = "fails"
    assert history.sync(after_s=60) == 1
    assert history.ledger.running() == {run}


def test_an_ending_seen_while_the_ledger_was_down_stays_in_the_state_file(bare: History) -> None:
    run = bare.slurm.run()
    bare.passes(1)
    bare.ledger.down = {"list": "down for maintenance"}
    bare.slurm.finish(run.job_id, "OUT_OF_MEMORY")
    end = bare.slurm.clock
    assert bare.sync(after_s=60) == 1
    bare.slurm.purge(run.job_id)
    assert bare.sync(after_s=600) == 1
    bare.ledger.down = {}
    bare.passes(1)
    assert bare.ended(run) == ("OUT_OF_MEMORY", end, "squeue")


def test_endings_behind_the_one_at_which_the_ledger_failed_stay_in_the_state_file(bare: History) -> None:
    runs = [bare.slurm.run() for _ in range(3)]
    bare.passes(1)
    bare.ledger.down = {"stop": "no connection"}
    for run in runs:
        bare.slurm.finish(run.job_id)
    end = bare.slurm.clock
    assert bare.sync(after_s=60) == 1
    for run in runs:
        bare.slurm.purge(run.job_id)
    assert bare.sync(after_s=600) == 1
    bare.ledger.down = {}
    bare.passes(1)
    assert bare.ledger.endings() == dict.fromkeys(runs, ("COMPLETED", end, "squeue"))


def test_an_ending_that_the_ledger_refused_is_offered_again(bare: History) -> None:
    run = bare.slurm.run()
    bare.passes(1)
    bare.ledger.answer("stop", run.job_id, "refused")
    bare.slurm.finish(run.job_id)
    end = bare.slurm.clock
    assert bare.sync(after_s=60) == 1
    bare.slurm.purge(run.job_id)
    bare.passes(1)
    bare.ledger.outcomes.clear()
    bare.passes(1, every_s=200)
    assert bare.ended(run) == ("COMPLETED", end, "squeue")


def test_without_accounting_marks_move_and_the_exit_code_is_0(bare: History) -> None:
    bare.passes(2)
    assert bare.part().mark == NOW + 119
