"""The mark up to which accounting is done with: when it moves, when it stays, how far is looked back."""

from __future__ import annotations

import pytest
from fake_source import NOW
from histories import LEDGER, History

import sync
from memory import Stopped
from model import RunKey

pytest_plugins = ["history_fixtures"]

DAY_S = 86400


def windows(history: History) -> list[tuple[int, int]]:
    """What accounting was asked for so far, as seconds before the present moment."""
    asked = (line.split(" ") for line in history.slurm.asked if line.startswith("window "))
    now = history.slurm.clock
    return [(now - int(since), now - int(until)) for _, since, until in asked]


@pytest.fixture
def settled(history: History) -> History:
    """After a healthy pass; the mark stands at the moment before its listing."""
    history.slurm.run()
    history.passes(1)
    assert history.part().mark == NOW + 59
    history.slurm.asked.clear()
    return history


def test_it_moves_to_the_moment_before_the_listing(settled: History) -> None:
    settled.passes(3)
    assert settled.part().mark == NOW + 239


def test_each_pass_looks_ten_minutes_behind_it(settled: History) -> None:
    settled.passes(1)
    assert windows(settled) == [(600 + 61, 0)]


def test_an_empty_target_begins_now(history: History) -> None:
    history.passes(1)
    assert windows(history) == [(600, 0)]


def test_without_a_mark_it_begins_at_the_oldest_start_that_the_target_lists(settled: History) -> None:
    settled.state_file.unlink()
    settled.slurm.pass_by(3000)
    settled.passes(1)
    assert windows(settled) == [(600 + 60 + 3000 + 60, 0)]


def test_a_mark_in_the_future_is_none(settled: History) -> None:
    settled.edit(mark=NOW + 10 * DAY_S)
    settled.passes(1)
    assert windows(settled) == [(600 + 120, 0)]
    assert settled.part().mark == NOW + 119


def test_after_a_long_outage_a_day_is_caught_up_in_each_pass(settled: History) -> None:
    settled.slurm.pass_by(3 * DAY_S)
    settled.passes(1)
    assert windows(settled) == [(3 * DAY_S + 61 + 600, 2 * DAY_S + 61)]
    assert settled.part().mark == NOW + 59 + DAY_S
    settled.passes(3)
    assert settled.part().mark == settled.slurm.clock - 1


def test_what_came_and_went_in_an_outage_is_caught_up(settled: History) -> None:
    runs = []
    for _ in range(3):
        runs.append(settled.slurm.run())
        settled.slurm.finish(runs[-1].job_id)
        settled.slurm.purge(runs[-1].job_id)
        settled.slurm.pass_by(DAY_S)
    settled.passes(4)
    assert set(settled.ledger.endings()) == set(runs)


def test_it_is_caught_up_for_seven_days_at_most(settled: History) -> None:
    settled.slurm.pass_by(30 * DAY_S)
    settled.passes(1)
    assert windows(settled) == [(7 * DAY_S + 600, 6 * DAY_S)]


def test_the_limit_of_catching_up_can_be_configured(settled: History) -> None:
    settled.document["catch_up_max_s"] = 7200
    settled.slurm.pass_by(30 * DAY_S)
    settled.passes(1)
    assert windows(settled) == [(7200 + 600, 0)]


def test_each_ledger_has_its_own_window_and_overlapping_ones_are_one_question(settled: History) -> None:
    settled.add_ledger("new")
    settled.passes(1)
    assert windows(settled) == [(600 + 61, 0)]
    settled.edit(LEDGER, mark=settled.slurm.clock - 3 * DAY_S)
    settled.slurm.asked.clear()
    settled.passes(1)
    assert windows(settled) == [(3 * DAY_S + 60 + 600, 2 * DAY_S + 60), (600 + 61, 0)]


@pytest.mark.parametrize("options", [["-j", "4711"], ["--direction", "start"], ["--direction", "stop"]])
def test_it_stays_where_the_command_line_narrows_the_pass(settled: History, options: list[str]) -> None:
    assert settled.sync(*options, after_s=60) == sync.OK
    assert settled.part().mark == NOW + 59


def test_it_stays_under_a_limit_that_cut(settled: History) -> None:
    for _ in range(3):
        settled.slurm.run()
    assert settled.sync("--limit", "2", after_s=60) == sync.OK
    assert settled.part().mark == NOW + 59
    assert settled.sync("--limit", "2", after_s=60) == sync.OK
    assert settled.part().mark == NOW + 179


def test_it_stays_while_accounting_fails_and_what_needs_it_is_held(settled: History) -> None:
    settled.slurm.accounting = "fails"
    new = settled.slurm.run()
    assert settled.sync(after_s=60) == sync.FAULT
    assert settled.part().mark == NOW + 59
    assert new in settled.ledger.running()
    assert "accounting could not be read, what needs it is held" in settled.err
    settled.slurm.finish(new.job_id)
    assert settled.sync(after_s=60) == sync.FAULT
    assert settled.ended(new) == ("COMPLETED", NOW + 120, "squeue")


def test_it_stays_while_slurmdbd_has_a_backlog(settled: History) -> None:
    settled.slurm.accounting = "lags"
    run = settled.slurm.run()
    settled.slurm.finish(run.job_id)
    settled.slurm.purge(run.job_id)
    settled.passes(2)
    assert settled.part().mark == NOW + 59
    settled.slurm.accounting = "on"
    settled.passes(1)
    assert settled.ended(run) == ("COMPLETED", NOW + 60, "sacct")
    assert settled.part().mark == NOW + 239


def test_it_stays_at_a_transient_failure_of_a_job_before_it(settled: History) -> None:
    run = settled.slurm.run()
    settled.ledger.answer("start", run.job_id, "failed")
    assert settled.sync(after_s=60) == sync.FAULT
    assert settled.part().mark == NOW + 59
    settled.slurm.finish(run.job_id)
    settled.slurm.purge(run.job_id)
    assert settled.sync(after_s=2 * DAY_S) == sync.FAULT
    settled.ledger.outcomes.clear()
    settled.passes(3)
    assert settled.ended(run) == ("COMPLETED", NOW + 120, "sacct")


def test_it_moves_past_a_refusal_that_is_remembered(settled: History) -> None:
    run = settled.slurm.run()
    settled.ledger.answer("start", run.job_id, "refused")
    assert settled.sync(after_s=60) == sync.FAULT
    assert settled.part().mark == NOW + 119
    assert settled.part().refused[str(run)].reason == "on purpose"


def test_it_moves_past_a_run_that_is_held(settled: History) -> None:
    settled.slurm.vanish(4711)
    settled.passes(2)
    assert settled.part().mark == NOW + 179


def test_it_stays_while_the_target_is_down_or_starts_nothing(settled: History) -> None:
    settled.ledger.down = {"list": "down"}
    assert settled.sync(after_s=60) == sync.FAULT
    assert settled.part().mark == NOW + 59
    settled.ledger.down, settled.ledger.no_starts = {}, "its topology cannot be read"
    assert settled.sync(after_s=60) == sync.FAULT
    assert settled.part().mark == NOW + 59
    assert "books: nothing is started: its topology cannot be read" in settled.err


def test_it_stays_when_there_is_more_news_than_one_pass_reads(
    settled: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("conduct", "gather"):
        monkeypatch.setattr(f"{module}.WHOLE_A_PASS", 2)
    runs = [settled.slurm.run() for _ in range(5)]
    for run in runs:
        settled.slurm.finish(run.job_id)
        settled.slurm.purge(run.job_id)
    settled.passes(2)
    assert settled.part().mark == NOW + 59
    settled.passes(1)
    assert set(settled.ledger.endings()) == set(runs)
    assert settled.part().mark == NOW + 239


def test_losing_the_state_file_costs_a_wider_look_and_nothing_else(settled: History) -> None:
    run = settled.slurm.run()
    settled.passes(1)
    settled.slurm.finish(4711)
    settled.slurm.purge(4711)
    settled.state_file.unlink()
    settled.passes(2)
    assert settled.ledger.running() == {run}
    assert settled.ended(RunKey("noctua", 4711, NOW)) == ("COMPLETED", NOW + 120, "sacct")
    assert settled.ledger.told("start") == ["4711@1700000000", str(run)]


def test_a_broken_state_file_is_begun_anew_and_said(settled: History) -> None:
    settled.state_file.write_text('{"schema": 1, "backends": {"books": {"watched": {"nonsense": {}}}}')
    assert settled.sync(after_s=60) == sync.OK
    assert "not a state file" in settled.err
    assert settled.part().mark == NOW + 119


def test_a_target_that_was_restored_has_its_memory_dropped_and_is_looked_through(settled: History) -> None:
    run = settled.slurm.run()
    settled.passes(1)
    settled.slurm.finish(run.job_id)
    settled.slurm.purge(run.job_id)
    settled.passes(1)
    settled.slurm.pass_by(3 * DAY_S)
    settled.passes(5)
    assert str(run) not in settled.part().stopped
    settled.edit(stopped={str(run): Stopped(NOW + 120, settled.slurm.clock)})
    settled.ledger.runs[run].state, settled.ledger.runs[run].end_time = "running", None
    settled.slurm.asked.clear()
    assert settled.sync(after_s=60) == sync.OK
    assert "books lists as running what it had accepted as stopped: restored? Looking back" in settled.err
    assert settled.ended(run) == ("COMPLETED", NOW + 120, "sacct")
    ((since, _),) = windows(settled)
    assert since == settled.slurm.clock - NOW + 600


def test_another_target_behind_the_same_name_gets_a_memory_of_its_own(settled: History) -> None:
    settled.passes(1)
    settled.ledger.identity = "elsewhere"
    settled.ledger.runs.clear()
    settled.passes(1)
    assert settled.ledger.told("start") == ["4711@1700000000"] * 2
    assert settled.part().identity == "elsewhere#noctua"
