"""What the job archive holds of a run after its start, its changes and its ending, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_runs import (
    FACTS,
    START,
    change_runs,
    make_archive,
    make_ending,
    make_start,
    query,
    read_dump,
    start_runs,
    stop_runs,
    verdicts,
)

from backends.base import Backend, Change, Deadline, Facts, KnownRun, Ledger, Outcome, Start
from backends.sqlite_archive import SqliteArchive, SqliteSection
from model import RunKey

KEY = RunKey("noctua", 4711, START)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def archive(path: Path) -> Iterator[SqliteArchive]:
    archive = make_archive(path)
    yield archive
    archive.close()


def test_it_is_a_ledger_that_names_its_file_and_cluster(archive: SqliteArchive, path: Path) -> None:
    assert isinstance(archive, Ledger) and isinstance(archive, Backend)
    assert archive.holds_changes
    assert archive.identity() == f"sqlite:{path}#noctua"
    assert archive.read_facts(None) == Facts(version="1")


def test_a_relative_path_is_bound_to_its_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert make_archive(Path("jobs.db")).identity() == f"sqlite:{path}#noctua"


def test_its_section_needs_a_path_and_knows_no_other_key() -> None:
    assert convert({"path": "jobs.db"}) == SqliteSection(path=Path("jobs.db"))
    for wrong in ({}, {"path": "a", "pfad": 1}, {"path": "a", "timeout_s": -1}):
        with pytest.raises(msgspec.ValidationError):
            convert(wrong)


def convert(section: dict[str, Any]) -> SqliteSection:
    return msgspec.convert(section, SqliteSection, dec_hook=lambda kind, value: kind(value))


def test_a_started_run_is_listed_as_running_until_it_is_stopped(archive: SqliteArchive) -> None:
    start = make_start()
    assert start_runs(archive, start) == [Outcome(KEY, "done")]
    assert archive.read_running() == {KEY: KnownRun("running", "n001", 4)}
    assert archive.read_ended([KEY]) == set()
    assert stop_runs(archive, make_ending(start)) == [Outcome(KEY, "done")]
    assert archive.read_running() == {}
    assert archive.read_ended([KEY]) == {KEY}


def test_starting_again_is_done_and_changes_nothing(archive: SqliteArchive, path: Path) -> None:
    start = make_start(script="sleep 1")
    start_runs(archive, start)
    before = read_dump(path)
    again = make_start(name="other", script="sleep 2", state="SUSPENDED")
    assert start_runs(archive, again, start) == [Outcome(KEY, "done", "stood there already")] * 2
    assert read_dump(path) == before


def test_an_ended_run_is_not_started_again(archive: SqliteArchive, path: Path) -> None:
    start = make_start()
    start_runs(archive, start)
    stop_runs(archive, make_ending(start))
    before = read_dump(path)
    assert verdicts(start_runs(archive, start)) == ["done"]
    assert read_dump(path) == before


def test_a_requeued_job_is_another_run(archive: SqliteArchive) -> None:
    first, second = make_start(), make_start(start_time=START + 100)
    start_runs(archive, first, second)
    stop_runs(archive, make_ending(first, "REQUEUED"))
    assert list(archive.read_running()) == [second.run.key]


@pytest.mark.parametrize(
    ("word", "state"),
    [("RUNNING", "running"), ("SUSPENDED", "suspended"), ("STOPPED", "suspended"), ("COMPLETED", "running")],
)
def test_a_start_is_stored_and_rendered_in_its_true_state(
    archive: SqliteArchive, path: Path, word: str, state: str
) -> None:
    start = make_start(state=word)
    start_runs(archive, start)
    assert archive.read_running() == {KEY: KnownRun(state, "n001", 4)}
    assert query(path, "SELECT event, state FROM run_changes") == [("started", state)]
    rendered = archive.render(start.run, start.placement, FACTS)
    assert rendered["jobState"] == state
    assert rendered["resources"][0]["hostname"] == "n001"


def test_a_run_that_came_and_went_is_started_and_then_stopped(archive: SqliteArchive, path: Path) -> None:
    start = make_start(state="FAILED", seen_alive=False)
    start_runs(archive, start)
    stop_runs(archive, make_ending(start, "FAILED"))
    assert query(path, "SELECT state, seen_alive, end_time FROM runs") == [("failed", 0, START + 60)]


def test_a_change_that_stands_there_already_changes_nothing(archive: SqliteArchive, path: Path) -> None:
    start_runs(archive, make_start())
    change = Change(KEY, "suspended", make_start(cpus=2))
    change_runs(archive, change, now=START + 10)
    before = read_dump(path)
    assert change_runs(archive, change, now=START + 20) == [Outcome(KEY, "done")]
    assert read_dump(path) == before


def test_only_a_run_that_has_not_ended_can_change(archive: SqliteArchive) -> None:
    assert change_runs(archive, Change(KEY, "suspended")) == [
        Outcome(KEY, "refused", "is not in the archive")
    ]
    start = make_start()
    start_runs(archive, start)
    assert verdicts(change_runs(archive, Change(KEY, "completed"))) == ["refused"]
    assert archive.read_running() == {KEY: KnownRun("running", "n001", 4)}
    stop_runs(archive, make_ending(start))
    assert change_runs(archive, Change(KEY, "suspended")) == [Outcome(KEY, "refused", "has ended there")]


def test_a_second_ending_changes_nothing(archive: SqliteArchive, path: Path) -> None:
    start = make_start()
    start_runs(archive, start)
    stop_runs(archive, make_ending(start))
    before = read_dump(path)
    assert stop_runs(archive, make_ending(start, "FAILED", 90)) == [Outcome(KEY, "done", "had ended already")]
    assert read_dump(path) == before


def test_an_ending_of_an_unknown_run_is_refused(archive: SqliteArchive) -> None:
    assert stop_runs(archive, make_ending(make_start())) == [Outcome(KEY, "refused", "is not in the archive")]
    assert archive.read_ended([KEY]) == set()


def test_a_run_never_ends_before_it_started(archive: SqliteArchive, path: Path) -> None:
    start = make_start()
    start_runs(archive, start)
    assert verdicts(stop_runs(archive, make_ending(start, after_s=-5))) == ["done"]
    assert query(path, "SELECT end_time, duration_s FROM runs") == [(START, 0)]


def test_an_ending_that_is_none_is_refused(archive: SqliteArchive) -> None:
    start = make_start()
    start_runs(archive, start)
    (outcome,) = stop_runs(archive, make_ending(start, "RUNNING"))
    assert (outcome.verdict, "exactly_ended_runs_have_an_end_time" in outcome.reason) == ("refused", True)
    assert list(archive.read_running()) == [KEY]


def test_a_run_that_the_tables_refuse_leaves_the_others_be(archive: SqliteArchive, path: Path) -> None:
    good, bad, huge = make_start(1), make_start(2, start_time=0), make_start(3, cpus=2**64)
    far = make_start(2**70)
    assert verdicts(start_runs(archive, bad, good, huge, far)) == ["refused", "done", "refused", "refused"]
    assert list(archive.read_running()) == [good.run.key]
    assert query(path, "SELECT count(*) FROM node") == query(path, "SELECT count(*) FROM change") == [(1,)]
    assert archive.read_ended([far.run.key]) == set()


def test_thousands_of_candidates_are_told_apart(archive: SqliteArchive) -> None:
    starts = [make_start(job_id) for job_id in range(1, 3001)]
    start_runs(archive, *starts)
    ended = starts[::2]
    assert set(verdicts(stop_runs(archive, *map(make_ending, ended)))) == {"done"}
    unknown = [RunKey("noctua", job_id, START + 1) for job_id in range(1, 3001)]
    candidates = [*(start.run.key for start in starts), *unknown]
    assert archive.read_ended(candidates) == {start.run.key for start in ended}
    assert set(archive.read_running()) == {start.run.key for start in starts[1::2]}


def test_outcomes_come_only_after_their_transaction(archive: SqliteArchive, path: Path) -> None:
    outcomes = archive.start([make_start(job_id) for job_id in range(1, 1202)], Deadline(60))
    seen = [(next(outcomes).key.job_id, query(path, "SELECT count(*) FROM run")[0][0]) for _ in range(1201)]
    assert [seen[at] for at in (0, 499, 500, 999, 1000, 1200)] == [
        *((1, 500), (500, 500), (501, 1000), (1000, 1000), (1001, 1201), (1201, 1201))
    ]


def test_what_is_not_done_in_time_is_left_to_the_next_pass(archive: SqliteArchive, path: Path) -> None:
    outcomes = list(archive.start([make_start()], Deadline(0)))
    assert outcomes == [Outcome(KEY, "failed", "no time is left in this pass")]
    assert not path.exists()


def test_clusters_share_a_file_and_not_their_runs(archive: SqliteArchive, path: Path) -> None:
    other = make_archive(path, "otus")
    here, there = make_start(), make_start(cluster="otus", cpus=8)
    start_runs(archive, here)
    start_runs(other, there)
    assert archive.read_running() == {KEY: KnownRun("running", "n001", 4)}
    assert other.read_running() == {there.run.key: KnownRun("running", "n001", 8)}
    stop_runs(other, make_ending(there))
    assert (list(archive.read_running()), list(other.read_running())) == ([KEY], [])
    assert other.read_ended([KEY, there.run.key]) == {there.run.key}
    other.close()


def test_a_cluster_with_a_hostile_name_finds_its_runs(path: Path) -> None:
    archive, start = make_archive(path, "a\udcffb"), make_start(cluster="a\udcffb")
    start_runs(archive, start)
    assert list(archive.read_running()) == [start.run.key]
    archive.close()


STEPS = st.lists(st.tuples(st.sampled_from(["start", "suspended", "running", "stop"]), st.integers(1, 3)))


@given(steps=STEPS)
def test_any_order_of_steps_twice_each_ends_where_a_dictionary_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    archive = make_archive(tmp_path_factory.mktemp("steps") / "jobs.db")
    expected: dict[int, str] = {}
    for step, job_id in steps:
        start = make_start(job_id)
        for _ in range(2):
            _take(archive, step, start)
        if step == "start":
            expected.setdefault(job_id, "running")
        elif job_id in expected and expected[job_id] != "ended":
            expected[job_id] = "ended" if step == "stop" else step
    held: dict[Any, str] = {key.job_id: known.state for key, known in archive.read_running().items()}
    ended = archive.read_ended([make_start(job_id).run.key for job_id in (1, 2, 3)])
    assert held | {key.job_id: "ended" for key in ended} == expected
    archive.close()


def _take(archive: SqliteArchive, step: str, start: Start) -> None:
    if step == "start":
        start_runs(archive, start)
    elif step == "stop":
        stop_runs(archive, make_ending(start))
    else:
        change_runs(archive, Change(start.run.key, step))
