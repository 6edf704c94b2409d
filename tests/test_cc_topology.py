"""A cc-backend's version and topology in a pass: found, kept for a day, and what happens without."""

from __future__ import annotations

from typing import Any

import pytest
from cc_scene import Scene, only_new, with_topology
from fake_source import NOW

import sync

pytest_plugins = ["cc_fixtures"]

CLUSTER = "GET /api/clusters/"
UNREADABLE: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 502},
    {"status": 200, "body": b"<html>"},
    {"status": 200, "body": b'{"clusters": [{"name": "noctua"}]}'},
    {"reset": True},
]


def name_of(fault: dict[str, Any]) -> str:
    return "-".join(str(value) for value in fault.values())[:12]


def threads_of(scene: Scene, job_id: int) -> list[int]:
    threads: list[int] = scene.job(job_id)["resources"][0]["hwthreads"]
    return threads


def test_cores_are_sent_as_the_hardware_threads_of_its_topology(scene: Scene) -> None:
    run = scene.slurm.run()
    assert scene.sync() == sync.OK
    job = scene.job(run.job_id)
    assert threads_of(scene, run.job_id) == [0, 1, 16, 17]
    assert (job["numHwthreads"], job["smt"]) == (4, 1)


@with_topology
@pytest.mark.parametrize("fault", UNREADABLE, ids=name_of)
def test_a_topology_that_cannot_be_read_leaves_stops_going_on(scene: Scene, fault: dict[str, Any]) -> None:
    old = scene.slurm.run()
    assert scene.sync() == sync.OK
    scene.double.commit_cache()
    scene.slurm.pass_by(2 * 86400)  # the last good copy is too old
    scene.double.fault(CLUSTER, times=-1, **fault)
    scene.slurm.finish(old.job_id)
    new = scene.slurm.run()
    assert scene.sync() == sync.FAULT
    (line,) = (line for line in scene.lines() if "nothing is started" in line)
    assert line.split("cc-backend: ")[1].startswith("nothing is started: ")
    assert scene.jobs() == {str(old): "completed"}
    assert scene.other_jobs() == {str(old), str(new)}
    scene.double.clear_faults()
    for _ in range(4):
        assert scene.sync() == sync.OK
    assert scene.jobs() == {str(old): "completed", str(new): "running"}


@with_topology
@pytest.mark.parametrize("fault", [*UNREADABLE, {"status": 404}], ids=name_of)
def test_its_last_good_copy_serves_for_a_day(scene: Scene, fault: dict[str, Any]) -> None:
    first = scene.slurm.run()
    assert scene.sync() == sync.OK
    scene.double.fault(CLUSTER, times=-1, **fault)
    second = scene.slurm.run()
    assert scene.sync(after_s=86000) == sync.OK
    assert threads_of(scene, second.job_id) == threads_of(scene, first.job_id)


@only_new
def test_without_a_copy_nothing_is_started(scene: Scene) -> None:
    scene.double.fault(CLUSTER, times=-1, status=500)
    run = scene.slurm.run()
    assert scene.sync() == sync.FAULT
    assert scene.jobs() == {}
    scene.double.clear_faults()
    assert scene.sync() == sync.OK
    assert scene.jobs() == {str(run): "running"}


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_version_that_cannot_be_told_ends_the_target_s_pass(scene: Scene, status: int) -> None:
    scene.double.fault("GET /api/nodestate/", status=status, times=-1)
    run = scene.slurm.run()
    assert scene.sync() == sync.FAULT
    assert len(scene.lines()) == 1
    assert scene.jobs() == {}
    scene.double.clear_faults()
    assert scene.sync() == sync.OK
    assert scene.jobs() == {str(run): "running"}


def test_a_healthy_pass_without_news_asks_little_and_writes_nothing(scene: Scene) -> None:
    scene.slurm.run()
    scene.sync()
    scene.double.commit_cache()
    scene.double.requests.clear()
    assert scene.sync() == sync.OK
    assert {method for method, _, _ in scene.double.requests} == {"GET"}
    assert len(scene.double.requests) <= 3


# Node states


@only_new
def test_node_states_are_sent_every_five_minutes_in_one_request(scene: Scene) -> None:
    scene.section["node_states"] = True
    scene.slurm.run("n2cn[001-002]")
    starting = scene.slurm.run("n2cn002")
    scene.slurm.turn(starting.job_id, "CONFIGURING")
    for _ in range(11):
        assert scene.sync() == sync.OK
    assert len(scene.double.node_states) == 3
    body = scene.double.node_states[0]
    assert body["cluster"] == "noctua"
    assert [node["hostname"] for node in body["nodes"]] == [
        *(f"n2cn00{n}" for n in range(1, 7)), "n2gpu01", "n2gpu02"
    ]  # fmt: skip
    assert body["nodes"][1] == {
        "hostname": "n2cn002",
        "states": ["idle"],
        "cpusAllocated": 0,
        "memoryAllocated": 0,
        "gpusAllocated": 0,
        "jobsRunning": 2,
    }
    assert scene.part().published_at == NOW + 660


@pytest.mark.parametrize("scene", ["1.2.2", "1.4.4"], indirect=True)
def test_before_1_5_none_are_sent(scene: Scene) -> None:
    scene.section["node_states"] = True
    scene.slurm.run()
    assert scene.sync() == sync.OK
    assert scene.double.node_states == []


@only_new
def test_nodes_that_cannot_be_read_wait_for_the_next_pass(scene: Scene) -> None:
    scene.section["node_states"] = True
    run = scene.slurm.run()
    scene.slurm.broken = {"nodes"}
    assert scene.sync() == sync.FAULT
    assert "nodes could not be read, what is shown of them waits" in scene.history.err
    assert str(run) in scene.jobs()
    assert scene.double.node_states == []
    scene.slurm.broken = set()
    assert scene.sync() == sync.OK
    assert len(scene.double.node_states) == 1


@only_new
def test_a_test_sync_of_one_job_shows_no_nodes(scene: Scene) -> None:
    scene.section["node_states"] = True
    run = scene.slurm.run()
    assert scene.sync("-j", str(run.job_id)) == sync.OK
    assert scene.double.node_states == []


@only_new
def test_node_states_that_are_refused_do_not_touch_the_jobs(scene: Scene) -> None:
    scene.section["node_states"] = True
    run = scene.slurm.run()
    scene.double.fault("POST /api/nodestate/", status=400, times=-1)
    assert scene.sync() == sync.FAULT
    assert scene.jobs() == {str(run): "running"}
    assert "cc-backend: node states are refused (400: )" in scene.history.err
