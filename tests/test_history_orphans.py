"""Runs of which Slurm tells no more: held, and written off only under the guard."""

from __future__ import annotations

import json

import pytest
from fake_source import NOW
from histories import History

import sync
from model import RunKey

pytest_plugins = ["history_fixtures"]

HOUR_S = 3600
DAY_PASSES = 26  # of an hour each: the first pass only begins to count


@pytest.fixture
def orphan(history: History) -> RunKey:
    """A run that slurmctld forgot without a word, beside one that goes on."""
    run = history.slurm.run()
    history.slurm.run()
    history.passes(1)
    history.slurm.vanish(run.job_id)
    return run


def lose(history: History, count: int, of: int) -> list[RunKey]:
    """So many of the runs vanish; one beside them stays active."""
    runs = [history.slurm.run() for _ in range(of)]
    history.slurm.run()
    history.passes(1)
    for run in runs[:count]:
        history.slurm.vanish(run.job_id)
    return runs[:count]


def test_it_is_written_off_after_a_day_at_the_time_it_was_last_seen(history: History, orphan: RunKey) -> None:
    history.passes(24, HOUR_S)
    assert orphan in history.ledger.running()
    assert history.held() == [orphan.job_id]
    history.passes(2, HOUR_S)
    assert history.ended(orphan) == ("FAILED", NOW + 60, "written off")


def test_orphan_after_s_is_the_site_s_to_choose(history: History, orphan: RunKey) -> None:
    history.document["orphan_after_s"] = 2 * HOUR_S
    history.passes(3, HOUR_S)
    assert orphan in history.ledger.running()
    history.passes(1, HOUR_S)
    assert history.ended(orphan) == ("FAILED", NOW + 60, "written off")


@pytest.mark.parametrize("trouble", ["fails", "lags"])
def test_time_in_which_accounting_did_not_answer_in_full_does_not_count(
    history: History, orphan: RunKey, trouble: str
) -> None:
    history.passes(10, HOUR_S)
    history.slurm.accounting = trouble
    history.slurm.finish(history.slurm.submit())  # something for the backlog
    for _ in range(48):
        history.sync(after_s=HOUR_S)
    history.slurm.accounting = "on"
    history.passes(15, HOUR_S)
    assert orphan in history.ledger.running()
    history.passes(2, HOUR_S)
    assert history.ended(orphan) == ("FAILED", NOW + 60, "written off")


def test_time_in_which_the_program_did_not_run_counts_as_an_hour_at_most(
    history: History, orphan: RunKey
) -> None:
    history.passes(3, 10 * 86400)
    assert orphan in history.ledger.running()
    assert history.part().watched[str(orphan)].missing_s == 2 * HOUR_S


def test_time_in_which_the_target_was_down_does_not_count(history: History, orphan: RunKey) -> None:
    history.passes(5, HOUR_S)
    history.ledger.down = {"list": "down"}
    history.sync(after_s=HOUR_S)
    history.ledger.down = {}
    history.passes(1, 600)
    assert history.part().watched[str(orphan)].missing_s == 4 * HOUR_S


def test_without_accounting_passes_with_a_whole_listing_count(history: History) -> None:
    history.without_accounting()
    run = history.slurm.run()
    history.slurm.run()
    history.passes(1)
    history.slurm.vanish(run.job_id)
    history.slurm.broken = {"listing"}
    assert history.sync(after_s=HOUR_S) == sync.NO_QUEUE
    history.slurm.broken = set()
    history.passes(25, HOUR_S)
    assert run in history.ledger.running()
    history.passes(1, HOUR_S)
    assert history.ended(run) == ("FAILED", NOW + 60, "written off")


def test_a_run_that_appears_again_begins_anew(history: History, orphan: RunKey) -> None:
    history.passes(20, HOUR_S)
    history.slurm.entries[orphan.job_id].is_listed = True
    history.passes(1, HOUR_S)
    assert history.part().watched[str(orphan)].missing_s == 0
    history.slurm.vanish(orphan.job_id)
    history.passes(20, HOUR_S)
    assert orphan in history.ledger.running()


def test_an_ending_that_is_reported_late_comes_before_a_write_off(history: History, orphan: RunKey) -> None:
    history.passes(20, HOUR_S)
    history.slurm.finish(orphan.job_id, "NODE_FAIL")
    history.slurm.vanish(orphan.job_id)
    end = history.slurm.clock
    history.passes(10, HOUR_S)
    assert history.ended(orphan) == ("NODE_FAIL", end, "sacct")


def test_a_run_that_this_state_file_never_saw_active_is_never_written_off(
    history: History, orphan: RunKey
) -> None:
    history.state_file.unlink()
    history.passes(3 * DAY_PASSES, HOUR_S)
    assert orphan in history.ledger.running()
    assert history.part().watched[str(orphan)].last_seen == 0


def test_while_the_listing_has_no_active_run_nothing_is_written_off(history: History) -> None:
    run = history.slurm.run()
    history.passes(1)
    history.slurm.vanish(run.job_id)
    history.passes(2 * DAY_PASSES, HOUR_S)
    assert history.ledger.running() == {run}
    history.slurm.run()
    history.passes(1)
    assert history.ended(run) == ("FAILED", NOW + 60, "written off")


def test_up_to_9_write_offs_no_share_is_looked_at(history: History) -> None:
    lost = lose(history, 9, of=9)
    history.passes(DAY_PASSES, HOUR_S)
    assert set(history.ledger.endings()) == set(lost)


def test_more_than_a_tenth_from_10_up_is_refused_and_all_the_rest_is_done(history: History) -> None:
    lost = lose(history, 11, of=99)
    history.passes(25, HOUR_S)
    new, gone = history.slurm.run(), RunKey("noctua", lost[-1].job_id + 1, NOW)
    history.slurm.finish(gone.job_id)
    assert history.sync(after_s=HOUR_S) == sync.UNSAFE
    assert (
        "books: 11 of 100 runs would be written off (limit 10%); look at squeue and sacct, then --force"
        in history.err
    )
    assert set(lost) < history.ledger.running()
    assert new in history.ledger.running()
    assert list(history.ledger.endings()) == [gone]
    assert history.part().mark == history.slurm.clock - 1


def test_force_allows_them(history: History) -> None:
    lost = lose(history, 11, of=11)
    for _ in range(DAY_PASSES):
        history.sync(after_s=HOUR_S)
    assert history.ledger.endings() == {}
    assert history.sync("--force", after_s=60) == sync.OK
    assert history.ledger.endings() == dict.fromkeys(lost, ("FAILED", NOW + 60, "written off"))


def test_a_tenth_is_no_more_than_a_tenth(history: History) -> None:
    lost = lose(history, 10, of=99)
    history.passes(DAY_PASSES, HOUR_S)
    assert set(history.ledger.endings()) == set(lost)


def test_a_dry_run_says_what_would_be_refused_and_holds_them(history: History) -> None:
    lost = lose(history, 10, of=20)
    for _ in range(DAY_PASSES):
        history.sync(after_s=HOUR_S)
    assert history.sync("--dry-run", "--json") == sync.UNSAFE
    plan = json.loads(history.out)["backends"]["books"]
    assert plan["unsafe"].startswith("books: 10 of 21 runs would be written off")
    assert [held["jobId"] for held in plan["held"]] == [run.job_id for run in lost]
    assert plan["stops"] == []


def test_a_test_sync_of_one_job_writes_nothing_else_off(history: History, orphan: RunKey) -> None:
    history.passes(24, HOUR_S)
    new = history.slurm.run()
    history.sync("--direction", "start", after_s=HOUR_S)  # the orphan's time has come
    plan = history.plan("-j", str(new.job_id))
    assert (plan["stops"], plan["held"]) == ([], [])
    assert history.sync("-j", str(new.job_id)) == sync.OK
    assert orphan in history.ledger.running()
    assert history.would_stop("-j", str(orphan.job_id)) == [orphan.job_id]


def test_starting_only_writes_nothing_off_and_refuses_nothing(history: History) -> None:
    lost = lose(history, 12, of=12)
    history.passes(25, HOUR_S)
    assert history.sync("--direction", "start", after_s=2 * HOUR_S) == sync.OK
    assert set(lost) < history.ledger.running()


def test_a_write_off_that_the_target_refuses_is_tried_with_growing_distance(
    history: History, orphan: RunKey
) -> None:
    history.ledger.answer("stop", orphan.job_id, "refused")
    history.passes(25, HOUR_S)
    for _ in range(3):
        history.sync(after_s=HOUR_S)
    assert len(history.ledger.told("stop")) == 3
    history.passes(5, every_s=10)
    assert len(history.ledger.told("stop")) == 3
    assert history.part().owed == {}


def test_more_missing_runs_than_one_pass_asks_for_are_asked_for_in_turn(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gather.ASKED_A_PASS", 4)
    lost = lose(history, 9, of=9)
    history.slurm.asked.clear()
    history.passes(3, HOUR_S)
    asked = [line.split(" ")[1:] for line in history.slurm.asked if line.startswith("jobs ")]
    assert {job_id for ids in asked for job_id in ids} == {str(run.job_id) for run in lost}
    assert [len(ids) for ids in asked] == [4, 4, 4]
    history.document["orphan_after_s"] = HOUR_S
    history.passes(10, 600)
    assert set(history.ledger.endings()) == set(lost)


def test_one_ledger_s_many_missing_runs_do_not_keep_the_other_s_from_being_asked_for(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gather.ASKED_A_PASS", 4)
    lost = lose(history, 8, of=8)
    history.passes(2)
    other = history.add_ledger("other")
    run = history.slurm.run()
    history.passes(1)
    history.ledger.runs.pop(run)
    history.slurm.accounting = "lags"
    history.slurm.finish(run.job_id)
    history.slurm.purge(run.job_id)
    history.passes(4)
    assert run in other.running()
    history.slurm.pass_by(2 * 86400)  # its end lies before the next window
    history.edit("other", mark=history.slurm.clock)
    history.edit("books", mark=history.slurm.clock)
    history.slurm.accounting = "on"
    history.passes(3)
    assert other.endings()[run][0] == "COMPLETED"
    assert set(lost) < history.ledger.running()
