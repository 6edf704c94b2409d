"""The listing of the queue as JSON: all recordings, absurd records, half answers, errors with exit code 0."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from queue_rows import WAITING, T, a_job, parse, text
from recordings import ABSURD, ALL, CLUSTER, RELEASES, Recorded, refusal

from model import Job
from slurm import queue
from slurm.document import AnswerError


def scontrol_fields(recorded: Recorded) -> dict[int, tuple[str, str, str, str]]:
    """State, partition, CPUs and nodes by job id from scontrol's text, which is another command's answer."""
    found: dict[int, tuple[str, str, str, str]] = {}
    for block in re.split(r"^(?=JobId=)", recorded.read("scontrol_job_d.txt").decode(), flags=re.M)[1:]:
        names = "JobState", "Partition", "NumCPUs", "NodeList"
        state, partition, cpus, nodes = (re.search(rf"^ .*?\b{name}=(\S*)", block, re.M) for name in names)
        assert state and partition and cpus
        told = nodes[1] if nodes and nodes[1] != "(null)" else ""
        found[int(block[6:].split()[0])] = (state[1], partition[1], cpus[1].partition("-")[0], told)
    return found


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_a_recording_lists_its_jobs_as_scontrol_knows_them(recorded: Recorded) -> None:
    told = scontrol_fields(recorded)
    jobs = queue.parse_listing_json(recorded.read("squeue.json"), CLUSTER)
    alone = [job for job in jobs if not job.array_tasks]
    assert {j.job_id: (j.state, j.partition, str(j.cpus), j.node_list) for j in alone} == {
        j.job_id: told[j.job_id] for j in alone
    }


def test_a_recording_is_read_whole() -> None:
    jobs = {
        j.job_id: j for j in queue.parse_listing_json(Recorded("25.11", "t0").read("squeue.json"), CLUSTER)
    }
    base = a_job(submit_time=T, user="alice")
    assert jobs[7] == a_job(
        base, job_id=7, partition="gpu", state="RUNNING", cpus=4, gpus=3, start_time=T + 1, reason="",
        node_list="n2dgx01", name="gpu_mixed",
    )  # fmt: skip
    assert jobs[9] == a_job(
        base, job_id=9, array_job_id=9, array_tasks="3-7%3", user="bob", account="chem",
        reason="JobArrayTaskLimit", name="arr",
    )  # fmt: skip
    assert jobs[11] == a_job(
        base, job_id=11, het_job_id=10, het_offset=1, user="bob", account="chem", partition="gpu",
        state="RUNNING", start_time=T + 24, reason="", node_list="n2gpu02", name="hetjob",
    )  # fmt: skip
    assert jobs[23] == a_job(
        base, job_id=23, user="bob", account="chem", state="RUNNING", cpus=2, start_time=T + 24, reason="",
        node_list="n2cn005", name="optout", admin_comment="disable_cc_submission,other",
    )  # fmt: skip
    assert jobs[27] == a_job(
        base, job_id=27, state="COMPLETING", cpus=2, start_time=T + 24, end_time=T + 30, reason="",
        node_list="n2cn005", name="slow_epilog",
    )  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
def test_requeued_tasks_join_the_waiting_entry_of_their_array(release: str) -> None:
    jobs = queue.parse_listing_json(Recorded(release, "t1").read("squeue.json"), CLUSTER)
    tasks = [(j.job_id, j.array_tasks, j.array_task_id, j.state) for j in jobs if j.array_job_id == 9]
    assert sorted(tasks, key=lambda task: task[0])[0] == (9, "0-2,6-7", None, "PENDING")
    assert {(task, state) for _, _, task, state in tasks} == {
        (None, "PENDING"),
        (3, "RUNNING"),
        (4, "RUNNING"),
        (5, "RUNNING"),
    }


JSON_JOB = {
    **{"job_id": 4711, "array_job_id": 0, "array_task_id": None, "array_task_string": "", "het_job_id": 0},
    **{"het_job_offset": 0, "user_name": "ada", "user_id": 2001, "account": "physics", "partition": "normal"},
    **{"qos": "normal", "job_state": ["PENDING"], "node_count": 1, "cpus": 1, "tres_alloc_str": ""},
    **{"tres_req_str": "cpu=1,mem=100M", "submit_time": T, "start_time": 0, "end_time": 0, "nodes": ""},
    **{"state_reason": "Priority", "name": "train", "admin_comment": "", "cluster": CLUSTER},
}


def parse_json(*changes: dict[str, Any], **document: Any) -> tuple[Job, ...]:
    jobs = [JSON_JOB | change for change in changes]
    return queue.parse_listing_json(json.dumps({"jobs": jobs, "errors": [], **document}).encode(), CLUSTER)


def test_a_job_of_another_cluster_is_dropped() -> None:
    assert parse_json({}, {"job_id": 5, "cluster": "alpha"}) == (WAITING,)
    head = {"slurm": {"cluster": "alpha"}}
    assert parse_json({}, {"job_id": 5, "cluster": "alpha"}, meta=head) == (a_job(job_id=5),)


def test_no_waiting_entry_is_lost_where_an_array_has_two() -> None:
    first, second = ({"array_job_id": 9, "job_id": 9, "array_task_string": tasks} for tasks in ("1-3", "8-9"))
    task = {"array_job_id": 9, "array_task_id": 5, "job_id": 12}
    entry = a_job(job_id=9, array_job_id=9)
    assert parse_json(first, task, second) == (
        a_job(entry, array_tasks="1-3"),
        a_job(entry, array_tasks="5,8-9"),
    )


def test_an_array_that_was_cancelled_while_it_waited_has_no_waiting_tasks() -> None:
    cancelled = {
        "job_state": ["CANCELLED"],
        "array_job_id": 4711,
        "array_task_string": "3-7",
        "end_time": T + 1,
    }
    text_row = {"State": "CANCELLED", "ArrayTaskID": "3-7", "EndTime": str(T + 1)}
    assert parse_json(cancelled) == parse(text(text_row))
    assert parse_json(cancelled) == (a_job(state="CANCELLED", array_job_id=4711, end_time=T + 1),)


@pytest.mark.parametrize("name", sorted(JSON_JOB))
def test_a_record_with_any_field_absurd_harms_no_other(name: str) -> None:
    for value in ABSURD:
        others = [job for job in parse_json({name: value}, {"job_id": 4712}) if job.job_id == 4712]
        assert others == [a_job(job_id=4712)], value


def test_a_record_without_id_is_left_out() -> None:
    assert parse_json({"job_id": None}, {"job_id": [5]}, {"job_id": 0}, {}) == (WAITING,)


def test_a_name_in_json_that_is_no_utf8_loses_no_job() -> None:
    answer = (
        json.dumps({"jobs": [JSON_JOB, JSON_JOB | {"job_id": 5}]}).encode().replace(b"train", b"caf\xe9", 1)
    )
    assert queue.parse_listing_json(answer, CLUSTER) == (a_job(name="caf\ufffd"), a_job(job_id=5))


def test_infinity_and_nan_in_json_lose_no_job() -> None:
    answer = json.dumps({"jobs": [JSON_JOB | {"billable": float("inf"), "x": [float("nan")]}]}).encode()
    assert b"Infinity" in answer
    assert queue.parse_listing_json(answer, CLUSTER) == (WAITING,)


def refuse_half(answer: bytes, parser: Callable[[bytes, str], object], step: int) -> None:
    for cut in range(0, len(answer.rstrip()), step):
        with pytest.raises(AnswerError):
            parser(answer[:cut], CLUSTER)


def test_half_a_json_answer_is_an_error_wherever_it_is_cut() -> None:
    refuse_half(
        json.dumps({"errors": [], "jobs": [JSON_JOB, JSON_JOB]}).encode(), queue.parse_listing_json, 1
    )


@pytest.mark.parametrize("release", RELEASES)
def test_half_a_recording_is_an_error(release: str) -> None:
    refuse_half(Recorded(release, "t0").read("squeue.json"), queue.parse_listing_json, 4999)


@pytest.mark.parametrize("release", ["21.08", "22.05"])
def test_errors_in_an_answer_with_exit_code_0_are_an_error(release: str) -> None:
    answer, _, code = refusal(release, "slurmctld", "squeue")
    assert code == 0
    with pytest.raises(AnswerError, match=r"^squeue: slurm_load_jobs: Unspecified error: Failed while"):
        queue.parse_listing_json(answer, CLUSTER)


@pytest.mark.parametrize("errors", [5, True, "broken", {"error": "broken"}, [None], ["broken"], [{}]])
def test_errors_of_any_shape_are_an_error(errors: object) -> None:
    with pytest.raises(AnswerError):
        parse_json({}, errors=errors)


@pytest.mark.parametrize("answer", [b"[]", b"5", b"{}", b'{"jobs": null}', b'{"jobs": {}}', b'{"jobs": [}'])
def test_json_without_a_list_of_jobs_is_an_error(answer: bytes) -> None:
    with pytest.raises(AnswerError):
        queue.parse_listing_json(answer, CLUSTER)
