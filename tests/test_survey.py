"""The listing sorted by what it says of runs; which jobs are none of ours."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from fake_source import NOW, FakeSlurm

from model import ACTIVE, ENDED, WAITING, Ending, Job, RunKey
from survey import Filters, View, runs_by_host, shown_jobs, survey

KEY = RunKey("noctua", 4711, NOW - 60)


def make_job(**fields: Any) -> Job:
    """A job that has run on two nodes for a minute."""
    slurm = FakeSlurm()
    slurm.clock = NOW - 60
    slurm.run(nodes="n2cn[001-002]")
    (job,) = slurm.read_listing().jobs
    return msgspec.structs.replace(job, **fields)


def look(*jobs: Job, filters: Filters | None = None, opted_out: tuple[str, ...] = ()) -> View:
    return survey(jobs, "noctua", NOW, filters or Filters(opt_out="no_cc"), opted_out)


@pytest.mark.parametrize("word", sorted(ACTIVE))
def test_running_suspended_and_stopped_are_active_and_alive(word: str) -> None:
    view = look(make_job(state=word))
    assert (set(view.active), view.alive, view.ended) == ({KEY}, {KEY}, {})


def test_configuring_is_alive_and_not_active() -> None:
    view = look(make_job(state="CONFIGURING"))
    assert (view.active, view.alive, view.completing, view.ended) == ({}, {KEY}, set(), {})


def test_completing_is_alive_and_not_active_though_it_has_an_end() -> None:
    view = look(make_job(state="COMPLETING", end_time=NOW - 1))
    assert (view.active, view.alive, view.completing, view.ended) == ({}, {KEY}, {KEY}, {})


@pytest.mark.parametrize("word", sorted(ENDED | {"REQUEUED"}))
def test_a_word_for_an_ending_with_an_end_is_one(word: str) -> None:
    view = look(make_job(state=word, end_time=NOW - 5))
    assert view.ended == {KEY: Ending(KEY, word, NOW - 5, "squeue")}
    assert (view.active, view.alive) == ({}, set())


def test_a_word_for_an_ending_without_an_end_is_none() -> None:
    view = look(make_job(state="COMPLETED"))
    assert (view.ended, view.alive, view.active) == ({}, set(), {})


def test_the_end_of_a_running_job_is_an_expectation() -> None:
    view = look(make_job(end_time=NOW - 5))
    assert (view.ended, view.alive) == ({}, {KEY})


def test_an_end_before_the_start_is_the_start() -> None:
    assert look(make_job(state="FAILED", end_time=1)).ended[KEY].end_time == KEY.start_time


@pytest.mark.parametrize("word", ["LAUNCH_FAILED", "", "HIBERNATED", "REVOKED"])
def test_an_unknown_word_is_neither_alive_nor_evidence(word: str) -> None:
    view = look(make_job(state=word, end_time=NOW - 5))
    assert (view.active, view.alive, view.ended, view.over) == ({}, set(), {}, {})
    assert view.unclear == {KEY}


@pytest.mark.parametrize(
    "fields",
    [{"node_list": ""}, {"start_time": 0}, {"start_time": NOW + 1}, {"node_list": "", "state": "FAILED"}],
)
def test_without_nodes_or_a_start_up_to_now_it_is_no_run(fields: dict[str, Any]) -> None:
    view = look(make_job(end_time=NOW, **fields))
    assert (view.active, view.alive, view.ended, view.unclear) == ({}, set(), {}, set())


def test_a_run_that_starts_at_the_moment_of_the_listing_is_one() -> None:
    assert set(look(make_job(start_time=NOW)).active) == {RunKey("noctua", 4711, NOW)}


@pytest.mark.parametrize("word", sorted(WAITING))
def test_an_id_that_waits_has_no_run_that_goes_on(word: str) -> None:
    view = look(make_job(state=word, node_list="", start_time=NOW + 500))
    assert view.over == {4711: NOW + 1}
    assert [job.job_id for job in view.waiting] == [4711]
    assert (view.active, view.alive, view.ended) == ({}, set(), {})


@pytest.mark.parametrize("word", ["RUNNING", "CONFIGURING", "COMPLETING", "TIMEOUT"])
def test_runs_before_the_start_that_is_listed_are_over(word: str) -> None:
    assert look(make_job(state=word, end_time=NOW)).over == {4711: NOW - 60}


def test_the_later_of_two_entries_of_an_id_counts() -> None:
    first, second = make_job(state="COMPLETED", end_time=NOW - 50), make_job(start_time=NOW - 40)
    assert look(first, second).over == look(second, first).over == {4711: NOW - 40}


def test_the_opt_out_word_is_an_entry_of_its_own_in_the_comment() -> None:
    assert look(make_job(admin_comment="a, no_cc ,b")).opted_out == {KEY}
    assert look(make_job(admin_comment="no_ccs")).opted_out == set()
    assert look(make_job(), opted_out=(str(KEY),)).opted_out == {KEY}
    assert look(make_job(), opted_out=("4711@1",)).opted_out == set()


def test_a_job_that_is_none_of_ours_is_alive_and_ends_but_is_not_started() -> None:
    filters = Filters(node_regex=re.compile("^n2gpu"))
    running = look(make_job(), filters=filters)
    assert (running.active, running.alive, running.left_out) == ({}, {KEY}, 1)
    ended = look(make_job(state="FAILED", end_time=NOW), filters=filters)
    assert (set(ended.ended), ended.ended_jobs) == ({KEY}, {})
    assert look(make_job(state="COMPLETING"), filters=filters).completing == set()


def test_the_expression_is_searched_in_the_compressed_list() -> None:
    assert not Filters(node_regex=re.compile(r"\[001-002\]")).leaves_out("n2cn[001-002]")
    assert Filters(node_regex=re.compile("n2cn002")).leaves_out("n2cn[001-002]")


def test_ignored_hosts_leave_a_job_out_only_if_it_has_no_other() -> None:
    filters = Filters(ignore_hosts=frozenset({"n2cn001", "n2cn002"}))
    assert filters.leaves_out("n2cn[001-002]")
    assert not filters.leaves_out("n2cn[002-003]")
    assert not filters.leaves_out("n2cn[2-1]")


def test_runs_are_counted_on_each_of_their_hosts() -> None:
    jobs = [make_job(), make_job(node_list="n2cn002,n2gpu01"), make_job(node_list="n2cn[2-1]")]
    jobs += [make_job(state="CONFIGURING"), make_job(state="COMPLETING"), make_job(state="PENDING")]
    assert runs_by_host(jobs) == {"n2cn001": 2, "n2cn002": 3, "n2gpu01": 1}


def test_a_status_page_shows_all_but_what_has_ended() -> None:
    jobs = [make_job(state=word) for word in ("PENDING", "COMPLETING", "REVOKED", "TIMEOUT", "HIBERNATED")]
    assert [job.state for job in shown_jobs(jobs)] == ["PENDING", "COMPLETING", "HIBERNATED"]
