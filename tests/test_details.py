"""Running jobs whole: cores, CPUs and devices against scontrol's text, and what corrupted answers yield."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recordings import ALL, CLUSTER, RELEASES, Recorded, plain, told_by_scontrol

from model import Allocation, Device, Run, RunKey
from slurm import cpu_ids, details
from slurm.document import AnswerError
from slurm.recording import Recording

ANY_ID = range(1, 100)
T = 1_795_231_851


def read(recorded: Recorded) -> dict[int, Run]:
    runs = Recording(recorded.folder, CLUSTER).read_details(ANY_ID, recorded.nodes())
    return {run.key.job_id: run for run in runs}


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_cores_cpus_and_devices_are_those_that_scontrol_tells(recorded: Recorded) -> None:
    told, runs = told_by_scontrol(recorded), read(recorded)
    assert runs.keys() == told.keys()
    assert len(runs) >= 14
    for job_id, run in runs.items():
        held = {a.host: a for a in told[job_id]}
        assert {a.host: (a.cores, a.devices) for a in run.allocations} == {
            host: (a.cores, a.devices) for host, a in held.items()
        }
        assert run.cpus == sum(a.cpus or 0 for a in held.values())
        assert all(a.cpus in (None, held[a.host].cpus) for a in run.allocations)
        assert run.gpus == sum(d.count for a in held.values() for d in a.devices if d.name == "gpu")


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_from_22_05_on_the_json_alone_tells_the_cores(recorded: Recorded) -> None:
    nodes = recorded.nodes()
    alone = details.parse_details(recorded.read("squeue.json"), CLUSTER, ANY_ID, nodes)
    if recorded.release == "21.08":
        assert all(a.cores is None for run in alone for a in run.allocations)
    else:
        assert {run.key.job_id: run for run in alone} == read(recorded)
        assert all(cpu_ids.cores_agree(run, nodes) for run in alone)


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_hosts_stand_in_slurms_order(recorded: Recorded) -> None:
    hosts = {job_id: run.hosts for job_id, run in read(recorded).items()}
    assert (hosts[4], hosts[8]) == (("n2cn002", "n2cn003"), ("n2dgx01", "n2gpu02"))


def test_a_run_is_read_whole() -> None:
    assert read(Recorded("25.11", "t0"))[8] == Run(
        key=RunKey(CLUSTER, 8, T + 1),
        user="alice",
        account="physics",
        partition="gpu",
        state="RUNNING",
        allocations=(
            Allocation("n2dgx01", 2, (17,), (Device("gpu", "a100", 2, (1, 2)),)),
            Allocation("n2gpu02", 2, (0, 8), (Device("gpu", "a100", 2, (0, 1)),)),
        ),
        cpus=4,
        gpus=4,
        node_list="n2dgx01,n2gpu02",
        qos="normal",
        name="gpu_multinode",
        submit_time=T,
        time_limit_s=1800,
        memory_mb=2000,
        info="JobId=8\nJobName=gpu_multinode\nUserId=alice(2001)\nAccount=physics\nQOS=normal\nPartition=gpu\n"
        f"Restarts=0\nSubmitTime={T}\nStartTime={T + 1}\nTimeLimitMinutes=30\n"
        "NodeList=n2dgx01,n2gpu02\nNumNodes=2\nNumCPUs=4\n"
        "TRES=cpu=4,mem=2000M,node=2,billing=4,gres/gpu=4,gres/gpu:a100=4\n"
        "Command=/home/alice/jobs/sleep.sh\nWorkDir=/home/alice\nComment=from script",
    )


@pytest.mark.parametrize("release", RELEASES)
def test_arrays_heterogeneous_suspended_and_exclusive_jobs_are_told(release: str) -> None:
    runs = read(Recorded(release, "t0"))
    assert [(runs[i].array_job_id, runs[i].array_task_id) for i in (30, 31, 7)] == [
        (9, 0),
        (9, 1),
        (None, None),
    ]
    assert [(runs[i].het_job_id, runs[i].het_offset) for i in (10, 11, 7)] == [(10, 0), (10, 1), (None, None)]
    assert (runs[25].state, runs[7].state) == ("SUSPENDED", "RUNNING")
    assert {i: run.sharing for i, run in runs.items() if run.sharing != "multi_user"} == {4: "none"}
    assert runs[22].name == "new\nline\tand\x1f\x1e|sep"
    assert runs[22].info.splitlines()[1] == "JobName=new line and  |sep"


def test_only_the_jobs_asked_for_are_told_and_an_unknown_id_is_no_error() -> None:
    recorded = Recorded("22.05", "t0")
    runs = details.parse_details(recorded.read("squeue.json"), CLUSTER, {3, 27, 13, 999}, recorded.nodes())
    assert [run.key.job_id for run in runs] == [3]


def test_a_job_of_another_cluster_is_dropped() -> None:
    document = Recorded("25.11", "t0").json("squeue.json")
    document["jobs"][2]["cluster"] = "alpha"
    runs = details.parse_details(json.dumps(document).encode(), CLUSTER, {2, 3}, {})
    assert [run.key.job_id for run in runs] == [2]


def test_without_its_node_a_core_has_no_number_before_24_05() -> None:
    recorded = Recorded("22.05", "t0")
    (run,) = details.parse_details(recorded.read("squeue.json"), CLUSTER, {3}, {})
    assert run.allocations == (Allocation("n2cn001"),)


def test_arguments_of_the_command_are_told_to_nobody() -> None:
    detail = details.Detail(job_id=1, nodes="n1", start_time=T, command="/home/ada/job.sh --token=hunter2")
    assert "hunter2" not in details.run_of(detail, CLUSTER, {}).info


@pytest.mark.parametrize(
    ("told", "sharing"),
    [
        ({}, "multi_user"),
        ({"shared": None}, "multi_user"),
        ({"shared": "none"}, "none"),
        ({"shared": "user"}, "single_user"),
        ({"shared": ["none"]}, "none"),
        ({"shared": ["user"], "exclusive": ["user"]}, "single_user"),
        ({"shared": [], "exclusive": ["true"]}, "none"),
        ({"shared": ["none"], "exclusive": ["mcs"]}, "single_user"),
        ({"exclusive": "NO"}, "multi_user"),
        ({"exclusive": "NODE"}, "none"),
        ({"exclusive": "USER"}, "single_user"),
        ({"shared": [], "job_resources": {"nodes": {"whole": True}}}, "none"),
        ({"shared": [], "job_resources": {"nodes": {"whole": False}}}, "multi_user"),
        ({"shared": ["user"], "job_resources": {"nodes": {"whole": True}}}, "single_user"),
        ({"shared": 5, "exclusive": {}, "job_resources": {"nodes": {"whole": "yes"}}}, "multi_user"),
    ],
)
def test_who_else_may_be_on_the_nodes_is_told_in_each_shape(told: dict[str, Any], sharing: str) -> None:
    assert details.sharing(details.Detail(**told)) == sharing


def test_devices_that_cannot_be_placed_on_their_node_are_not_told() -> None:
    for gres_detail in (["gpu:1(IDX:0)"], ["gpu:1(IDX:0)", None], "gpu:1(IDX:0),gpu:1(IDX:1)", None):
        detail = details.Detail(job_id=1, nodes="n[1-2]", start_time=T, gres_detail=gres_detail)
        assert [a.devices for a in details.run_of(detail, CLUSTER, {}).allocations] == [(), ()]


@pytest.mark.parametrize("detail", [{"job_id": 1, "nodes": "n1"}, {"nodes": "n1", "start_time": T}])
def test_a_running_job_without_start_or_id_is_left_out(detail: dict[str, Any]) -> None:
    answer = json.dumps({"jobs": [detail | {"job_state": "RUNNING"}], "errors": []}).encode()
    assert details.parse_details(answer, CLUSTER, ANY_ID, {}) == ()


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_half_an_answer_is_an_error(recorded: Recorded) -> None:
    whole = recorded.read("squeue.json").rstrip()
    for cut in range(0, len(whole), 9973):
        with pytest.raises(AnswerError):
            details.parse_details(whole[:cut], CLUSTER, ANY_ID, {})


@pytest.mark.parametrize("release", RELEASES)
def test_the_recorded_start_is_that_of_the_json(release: str) -> None:
    jobs = {job["job_id"]: job for job in Recorded(release, "t1").json("squeue.json")["jobs"]}
    for job_id, run in read(Recorded(release, "t1")).items():
        assert run.key == RunKey(CLUSTER, job_id, plain(jobs[job_id]["start_time"]))
