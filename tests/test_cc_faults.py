"""Whatever befalls a cc-backend: other targets are served, one line says what it was, the next pass repairs.

Each fault strikes three steps: while its jobs are listed, while a run is started, while one is stopped.
"""

from __future__ import annotations

from typing import Any

import pytest
from cc_scene import TOKEN, Scene, only_new
from fake_source import NOW

import sync

pytest_plugins = ["cc_fixtures"]

LIST, START, STOP = "GET /api/jobs/?", "POST /api/jobs/start_job/", "POST /api/jobs/stop_job/"
PAGE = {"body": b"<html>Welcome to the proxy</html>", "headers": {"Content-Type": "text/html"}}
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "401": ({"status": 401, "body": b'{"error":"expired"}'}, "the token is refused (401: expired)"),
    "403": ({"status": 403}, "the token is refused (403: )"),
    "404": ({"status": 404, **PAGE}, "answers 404"),
    "redirect": ({"status": 302, "headers": {"Location": "https://elsewhere.example.org/"}},
                 "redirects (302); configure the address it points to"),
    "page": ({"status": 200, **PAGE}, "200"),
    "garbage": ({"status": 200, "body": b"\x1f\x8b\x00\xff\x1b[2J"}, "200"),
    "reset": ({"reset": True}, "no connection"),
    "hang": ({"hang_s": 5}, "no answer within"),
    "429": ({"status": 429}, "answered 429"),
    "500": ({"status": 500, "body": b"database is locked"}, "answered 500"),
    "502": ({"status": 502, **PAGE}, "answered 502"),
}  # fmt: skip
TRANSIENT = ("reset", "hang", "429", "500", "502")


def begin(scene: Scene) -> tuple[Any, Any]:
    """One run is known and has ended, another is new."""
    old = scene.slurm.run()
    assert scene.sync() == sync.OK, scene.history.err
    scene.double.commit_cache()
    scene.slurm.finish(old.job_id)
    return old, scene.slurm.run()


@only_new
@pytest.mark.parametrize("route", [LIST, START, STOP], ids=["list", "start", "stop"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_and_is_repaired_by_the_next_pass(scene: Scene, name: str, route: str) -> None:
    fault, words = FAULTS[name]
    scene.section["timeout_s"] = 0.15 if name == "hang" else 10
    old, new = begin(scene)
    scene.double.fault(route, times=-1, **fault)
    assert scene.sync() == sync.FAULT
    (line,) = (line for line in scene.lines() if "started" not in line and "stopped" not in line)
    assert words in line
    if route != LIST and name in TRANSIENT:
        assert str(new if route == START else old) in line
    assert scene.other_jobs() == {str(old), str(new)}
    assert set(scene.history.ledger.endings()) == {old}
    assert scene.part().refused == {}
    assert scene.part().mark == NOW + 59
    scene.double.clear_faults()
    assert scene.sync() == sync.OK, scene.history.err
    assert scene.jobs() == {str(old): "completed", str(new): "running"}


def test_a_server_that_is_not_there_is_one_line(scene: Scene) -> None:
    scene.section["host"] = "http://127.0.0.1:9"
    run = scene.slurm.run()
    assert scene.sync() == sync.FAULT
    (line,) = scene.lines()
    assert line.endswith("ERROR   cc-backend: http://127.0.0.1:9/api: no connection")
    assert scene.other_jobs() == {str(run)}
    assert scene.sync("--quiet") == sync.FAULT
    assert scene.lines() == []  # the same fault again is said hourly


@pytest.mark.parametrize("route", [START, STOP], ids=["start", "stop"])
def test_an_answer_that_is_lost_on_the_way_back_costs_nothing(scene: Scene, route: str) -> None:
    old, new = begin(scene)
    scene.double.fault(route, status=502, taken=True)
    assert scene.sync() == sync.OK, scene.history.err
    assert scene.jobs() == {str(old): "completed", str(new): "running"}
    assert len(scene.posts(route.split("/")[-2])) == (3 if route == START else 2)


@pytest.mark.parametrize("committed", [False, True])
def test_a_pass_that_lost_all_answers_is_repaired_by_the_next_one(scene: Scene, committed: bool) -> None:
    old, new = begin(scene)
    for route in (START, STOP):
        scene.double.fault(route, reset=True, taken=True, times=-1)
    assert scene.sync() == sync.FAULT
    if committed:
        scene.double.commit_cache()
    scene.double.clear_faults()
    assert scene.sync() == sync.OK, scene.history.err
    assert scene.jobs() == {str(old): "completed", str(new): "running"}
    assert scene.part().refused == {}


def test_a_run_within_a_day_of_another_is_refused_once_and_never_stopped(scene: Scene) -> None:
    old, _ = begin(scene)
    scene.slurm.requeue(old.job_id)
    scene.sync()
    again = scene.slurm.start(old.job_id, "n2cn002")
    assert scene.sync() == sync.FAULT
    (line,) = (line for line in scene.lines() if str(again) in line)
    assert "refused, for good: cc-backend holds another run of this job id within a day of it" in line
    assert scene.sync() == sync.OK
    scene.slurm.finish(again.job_id)
    assert scene.sync(after_s=3600) == sync.OK
    assert scene.posts("start_job").count(again.job_id) == 2
    assert scene.posts("stop_job").count(again.job_id) == 1
    assert scene.history.ledger.endings()[again] == ("COMPLETED", scene.slurm.clock - 3600, "squeue")


def test_a_run_that_it_lost_is_started_and_stopped_again(scene: Scene) -> None:
    run = scene.slurm.run()
    assert scene.sync() == sync.OK
    for table in (scene.double.store.cache, scene.double.store.listed):
        table.rows.clear()
        table.by_job.clear()
    scene.slurm.finish(run.job_id)
    assert scene.sync() == sync.FAULT
    assert f"cc-backend: stop of {run} failed: it does not hold this run" in scene.history.err
    assert scene.sync() == sync.OK, scene.history.err
    assert scene.jobs() == {str(run): "completed"}


def test_a_run_that_it_ends_by_itself_is_not_sent_over_and_over(scene: Scene) -> None:
    run = scene.slurm.run()
    scene.sync()
    scene.double.commit_cache()
    scene.job(run.job_id).update(jobState="failed", stopTime=NOW + 70)
    for _ in range(30):
        scene.sync(after_s=300)
    assert len(scene.posts("start_job")) == 2
    scene.slurm.finish(run.job_id)
    assert scene.sync() == sync.OK
    assert scene.posts("stop_job") == []


def test_an_unknown_host_is_refused_until_the_cluster_is_extended(scene: Scene) -> None:
    run = scene.slurm.run("n9new01")
    other = scene.slurm.run()
    assert scene.sync() == sync.FAULT
    assert scene.jobs() == {str(other): "running"}
    assert scene.part().refused[str(run)].reason.endswith("for cluster noctua and host n9new01")
    subs = scene.double.store.clusters[0]["subClusters"]
    scene.double.store.clusters[0] = {
        **scene.double.store.clusters[0],
        "subClusters": [*subs, {**subs[0], "name": "new", "nodes": "n9new[01-09]"}],
    }
    for _ in range(62):
        assert scene.sync() in (sync.OK, sync.FAULT)
    assert scene.jobs() == {str(run): "running", str(other): "running"}


def test_an_unknown_cluster_ends_the_target_s_pass_and_no_job_is_refused(scene: Scene) -> None:
    clusters = scene.double.store.clusters[:]
    scene.double.store.clusters[:] = [{**clusters[0], "name": "otus"}]
    runs = {str(scene.slurm.run()) for _ in range(3)}
    assert scene.sync() == sync.FAULT
    (line,) = scene.lines()
    assert "noctua" in line
    assert scene.part().refused == {}
    assert scene.other_jobs() == runs
    scene.double.store.clusters[:] = clusters
    assert scene.sync() == sync.OK
    assert set(scene.jobs()) == runs


@only_new
def test_a_job_that_always_gets_a_502_blocks_nobody_and_is_refused_after_three_passes(scene: Scene) -> None:
    bad = scene.slurm.run()
    scene.double.fault(START, status=502, times=-1, job_id=bad.job_id)
    for turn in range(1, 4):
        runs = {str(scene.slurm.run()) for _ in range(8)}
        assert scene.sync() == sync.FAULT
        assert runs <= set(scene.jobs())
        assert (str(bad) in scene.part().refused) is (turn == 3)
    assert scene.sync() == sync.OK


@only_new
def test_a_server_that_dies_in_the_middle_is_given_up_with_one_line(scene: Scene) -> None:
    runs = {str(scene.slurm.run()) for _ in range(60)}
    scene.double.fault(START, reset=True, times=-1)
    assert scene.sync() == sync.FAULT
    (line,) = scene.lines()
    assert line.endswith(f"cc-backend: {scene.double.url}/api: no connection")
    assert len(set(scene.posts("start_job"))) < 10
    assert scene.other_jobs() == runs
    scene.double.clear_faults()
    assert scene.sync() == sync.OK
    assert set(scene.jobs()) == runs


@pytest.mark.parametrize("options", [(), ("--debug",), ("--dry-run",), ("--dry-run", "--json")])
@pytest.mark.parametrize(("route", "status"), [(START, 400), (STOP, 404), (LIST, 418)])
@only_new
def test_the_token_is_in_no_output_even_if_a_proxy_echoes_it(
    scene: Scene, route: str, status: int, options: tuple[str, ...]
) -> None:
    begin(scene)
    echo = f'{{"error": "cannot forward Authorization: Bearer {TOKEN}"}}'.encode()
    scene.double.fault(route, status=status, body=echo, headers={"Content-Type": "application/json"})
    scene.sync(*options)  # looks for the token in all that was said and stored
    if "--dry-run" not in options:
        assert "Authorization: Bearer ***" in scene.history.err
