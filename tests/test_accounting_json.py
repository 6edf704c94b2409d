"""Accounting's JSON: the recordings, 21.08's starts, absurd records, empty and half answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recordings import ABSURD, ALL, CLUSTER, RELEASES, Recorded, plain, refusal

from model import Allocation, Run, RunKey
from slurm.accounting import Accounted
from slurm.accounting_json import parse_json
from slurm.document import AnswerError

T = 1_795_231_851


def ended(recorded: Recorded) -> dict[tuple[int, int], tuple[str, int, tuple[str, ...]]]:
    """By job id and start: state, end and hosts of the runs that have ended."""
    told = (r for r in parse_json(recorded.read("sacct.json"), CLUSTER) if r.has_ended)
    return {(r.key.job_id, r.key.start_time): (r.run.state, r.end_time, r.run.hosts) for r in told}


def starts_in_the_queue(release: str) -> dict[int, int]:
    """When each job of a release began, as squeue told it, first at t0, where not yet requeued."""
    found: dict[int, int] = {}
    for moment in ("t1", "t0"):
        for job in Recorded(release, moment).json("squeue.json")["jobs"]:
            if job["nodes"]:
                found[job["job_id"]] = plain(job["start_time"])
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_an_ended_run_began_when_the_queue_said_so(release: str) -> None:
    began = starts_in_the_queue(release)
    told = ended(Recorded(release, "t1"))
    compared = {(job_id, start) for job_id, start in told if job_id in began}
    assert compared == {(job_id, began[job_id]) for job_id, _ in compared}
    assert {1, 2, 10, 30, 31, 32} <= {job_id for job_id, _ in compared}


def test_the_ended_runs_of_a_recording_are_read() -> None:
    one, four = ("n2cn001",), ("n2cn004",)
    assert ended(Recorded("25.11", "t1")) == {
        (1, T): ("CANCELLED", T + 33, one),
        (2, T): ("REQUEUED", T + 33, one),
        (6, T + 1): ("CANCELLED", T + 33, ("n2gpu01",)),
        (10, T + 24): ("NODE_FAIL", T + 33, four),
        (17, T + 54): ("FAILED", T + 54, four),
        (18, T + 54): ("COMPLETED", T + 55, four),
        (19, T + 54): ("TIMEOUT", T + 114, four),
        (27, T + 24): ("CANCELLED", T + 30, ("n2cn005",)),
        (30, T + 1): ("NODE_FAIL", T + 33, four),
        (31, T + 1): ("NODE_FAIL", T + 33, four),
        (32, T + 1): ("NODE_FAIL", T + 33, four),
        (33, T + 54): ("COMPLETED", T + 56, one),
    }


@pytest.mark.parametrize("release", RELEASES)
def test_requeued_and_failed_runs_of_an_array_and_a_heterogeneous_job_keep_their_place(release: str) -> None:
    runs = {r.key.job_id: r.run for r in parse_json(Recorded(release, "t1").read("sacct.json"), CLUSTER)}
    assert [(runs[i].array_job_id, runs[i].array_task_id) for i in (30, 31, 7)] == [
        (9, 0),
        (9, 1),
        (None, None),
    ]
    assert [(runs[i].het_job_id, runs[i].het_offset) for i in (10, 11, 7)] == [(10, 0), (10, 1), (None, None)]


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_what_waits_is_no_run_and_what_runs_has_not_ended(recorded: Recorded) -> None:
    records = parse_json(recorded.read("sacct.json"), CLUSTER)
    assert {r.run.state for r in records if not r.has_ended} == {"RUNNING"} | (
        {"SUSPENDED"} if recorded.moment == "t0" else set()
    )
    assert not {13, 14, 16, 20, 21, 26, 28} & {r.key.job_id for r in records}
    assert all(r.run.hosts and not r.run.seen_alive for r in records)


JOB: dict[str, Any] = {
    **{"job_id": 4711, "cluster": CLUSTER, "user": "ada", "account": "physics", "partition": "gpu"},
    **{"qos": "normal", "state": {"current": ["COMPLETED"]}, "name": "train", "nodes": "n[1-2]"},
    "time": {"submission": T, "start": T + 5, "end": T + 65, "elapsed": 60, "suspended": 0, "limit": None},
    "tres": {
        "allocated": [{"type": "cpu", "name": "", "count": 8}, {"type": "gres", "name": "gpu", "count": 2}]
    },
    **{"array": {"job_id": 0}, "het": {"job_id": 0}, "comment": {"administrator": "no_sync"}},
}
RUN = Run(
    key=RunKey(CLUSTER, 4711, T + 5),
    user="ada",
    account="physics",
    partition="gpu",
    state="COMPLETED",
    allocations=(Allocation("n1"), Allocation("n2")),
    cpus=8,
    gpus=2,
    node_list="n[1-2]",
    qos="normal",
    name="train",
    submit_time=T,
    seen_alive=False,
    info="JobId=4711\nJobName=train\nUserId=ada\nAccount=physics\nQOS=normal\nPartition=gpu\n"
    f"SubmitTime={T}\nStartTime={T + 5}\nTimeLimitMinutes=UNLIMITED\nNodeList=n[1-2]\nNumCPUs=8\n"
    "TRES=cpu=8,gres/gpu=2",
)
ENDED = Accounted(RUN, T + 65, "no_sync")


def parse(*jobs: dict[str, Any], **document: Any) -> tuple[Accounted, ...]:
    return parse_json(json.dumps({"jobs": jobs, "errors": [], **document}).encode(), CLUSTER)


def test_a_record_is_read_whole() -> None:
    assert parse(JOB) == (ENDED,)


def test_the_start_of_21_08_is_told_by_end_elapsed_and_suspended() -> None:
    time = JOB["time"] | {"start": T, "elapsed": 50, "suspended": 10}
    assert [record.key.start_time for record in parse(JOB | {"time": time})] == [T + 5]


@pytest.mark.parametrize(
    ("current", "state", "has_ended"),
    [
        ("CANCELLED by 123", "CANCELLED", True),
        (["CANCELLED"], "CANCELLED", True),
        (["PENDING", "REQUEUED"], "REQUEUED", True),
        (["RUNNING", "RESIZING"], "RESIZING", False),
        ("RESIZING", "RESIZING", False),
        (["BRAND_NEW"], "BRAND_NEW", True),
    ],
)
def test_states_come_as_text_or_as_a_list(current: object, state: str, has_ended: bool) -> None:
    (record,) = parse(JOB | {"state": {"current": current}})
    assert (record.run.state, record.has_ended) == (state, has_ended)


@pytest.mark.parametrize("changes", [{"nodes": "None assigned"}, {"nodes": ""}, {"nodes": None}])
def test_what_never_started_is_no_run(changes: dict[str, Any]) -> None:
    assert parse(JOB | changes, JOB) == (ENDED,)


@pytest.mark.parametrize("start", [0, 4294967294, None])
def test_a_record_without_start_and_end_is_no_run(start: int | None) -> None:
    assert parse(JOB | {"time": {"submission": T, "start": start, "end": 0}}) == ()


def test_records_of_another_cluster_are_dropped() -> None:
    other = JOB | {"cluster": "alpha", "job_id": 5}
    assert parse(JOB, other) == (ENDED,)
    assert [r.key.job_id for r in parse(JOB, other, meta={"slurm": {"cluster": "alpha"}})] == [5]


@pytest.mark.parametrize("name", sorted(JOB))
def test_a_record_with_any_field_absurd_harms_no_other(name: str) -> None:
    inner: list[dict[str, Any]] = []
    if isinstance(JOB[name], dict):
        inner = [{**JOB[name], key: value} for key in JOB[name] for value in ABSURD]
    for value in (*ABSURD, *inner):
        assert parse(JOB | {name: value}, JOB)[-1] == ENDED, value
    assert parse({key: value for key, value in JOB.items() if key != name}, JOB)[-1] == ENDED


@pytest.mark.parametrize("jobs", [(), (JOB,)])
def test_nothing_found_is_an_empty_answer_and_no_failure(jobs: tuple[dict[str, Any], ...]) -> None:
    nothing = {"error_number": 9003, "error": "Nothing found", "source": "slurmdb_jobs_get"}
    assert parse(*jobs, errors=[nothing]) == ((ENDED,) if jobs else ())
    with pytest.raises(AnswerError, match=r"^sacct: slurmdb_jobs_get: broken$"):
        parse(*jobs, errors=[nothing, {"error_number": 1, "error": "broken", "source": "slurmdb_jobs_get"}])


def test_half_an_answer_is_an_error_wherever_it_is_cut() -> None:
    whole = json.dumps({"jobs": [JOB], "errors": []}).encode()
    for cut in range(len(whole)):
        with pytest.raises(AnswerError):
            parse_json(whole[:cut], CLUSTER)


@pytest.mark.parametrize("release", RELEASES)
def test_without_slurmdbd_there_is_no_answer(release: str) -> None:
    stdout, stderr, code = refusal(release, "slurmdbd", "sacct")
    assert (code, "Connection refused" in stderr) == (1, True)
    with pytest.raises(AnswerError):
        parse_json(stdout, CLUSTER)
