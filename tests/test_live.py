"""A real slurmctld, slurmdbd and Redis: after each pass every target holds what scontrol says.

One history of one cluster, told in the order of the tests in this file.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import live
import pytest
import redis_server
from cc_double import CcDouble
from redis import Redis
from throwaway import Cluster

import sync
from model import ledger_state
from slurm import queue

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

Key = tuple[int, int]


class Scene:
    """The cluster, three targets and a configuration that binds them."""

    def __init__(
        self, folder: Path, cluster: Cluster, double: CcDouble, redis: redis_server.RedisServer
    ) -> None:
        self.cluster, self.double, self.redis, self.folder = cluster, double, redis, folder
        self.archive = folder / "jobs.db"
        (folder / "token").write_text(double.token)
        (folder / "token").chmod(0o600)
        self.config = live.write_config(
            folder,
            cluster,
            **{
                "cc-backend": {"host": double.url, "apikey": {"file": "token"}},
                "sqlite": {"path": str(self.archive)},
                "redis": {"url": redis.url},
            },
        )
        self.jobs: dict[str, int] = {}
        self.interactive: list[subprocess.Popen[bytes]] = []

    def sync(self, *options: str) -> int:
        return sync.main(["-c", str(self.config), *options])

    def submit(self, name: str, script: str, *options: str, user: str) -> None:
        self.jobs[name] = self.cluster.submit(script, "-J", name, "--mem=50", *options, user=user)

    def await_state(self, name: str, *states: str, timeout_s: float = 40) -> None:
        self.cluster.wait_until(
            lambda: self.cluster.state_of(self.jobs[name]) in states,
            timeout_s,
            f"{name} is {' or '.join(states)}",
        )

    def posts(self) -> int:
        return sum(method == "POST" and "nodestate" not in path for method, path, _ in self.double.requests)

    def archived(self) -> list[dict[str, Any]]:
        with sqlite3.connect(self.archive) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("select * from runs")]

    def archived_nodes(self) -> dict[Key, dict[str, tuple[Any, Any]]]:
        found: dict[Key, dict[str, tuple[Any, Any]]] = {}
        with sqlite3.connect(self.archive) as database:
            query = "select job_id, start_time, host, hwthreads, accelerators from run_nodes"
            for job_id, start, host, threads, cards in database.execute(query):
                held = (
                    tuple(live.numbers(threads)) if threads else None,
                    tuple(filter(None, cards.split(","))),
                )
                found.setdefault((job_id, start), {})[host] = held
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    live.require()
    folder = tmp_path_factory.mktemp("live")
    options = {"extra_conf": "KillWait=2\nOverTimeLimit=0"}
    with (
        pytest.MonkeyPatch.context() as patch,
        redis_server.running(folder) as redis,
        live.start_cluster(folder / "slurm", **options) as cluster,
        CcDouble("1.5.4", [live.cc_cluster()], commit_after_s=None) as double,
    ):
        for name, value in cluster.env.items():
            patch.setenv(name, value)
        scene = Scene(folder, cluster, double, redis)
        yield scene
        for process in scene.interactive:
            process.kill()
            process.wait()


def assert_true(scene: Scene) -> None:
    """All three targets hold what scontrol and sacct say."""
    truth = live.read_truth(scene.cluster)
    active = {key: t for key, t in truth.items() if t.state in ("RUNNING", "SUSPENDED")}
    assert_archive_true(scene, active)
    assert_double_true(scene, active)
    assert_portal_true(scene, active)


def assert_archive_true(scene: Scene, active: dict[Key, live.Truth]) -> None:
    rows = {(row["job_id"], row["start_time"]): row for row in scene.archived()}
    running = {key: row for key, row in rows.items() if row["end_time"] is None}
    assert {key: (row["user"], row["state"]) for key, row in running.items()} == {
        key: (t.user, ledger_state(t.state)) for key, t in active.items()
    }
    nodes = scene.archived_nodes()
    for key, t in active.items():
        assert nodes[key] == {host: (t.hwthreads[host], t.accelerators[host]) for host in t.hwthreads}
        assert running[key]["num_hwthreads"] == sum(map(len, t.hwthreads.values()))
    endings = live.read_endings(scene.cluster)
    ended = {key: row for key, row in rows.items() if row["end_time"] is not None}
    for key, row in ended.items():
        assert_ended_as_told(endings, key, row["state"], row["end_time"])


def assert_double_true(scene: Scene, active: dict[Key, live.Truth]) -> None:
    """What its day rule refuses stands under `refused` and nowhere else."""
    listed = {(job["jobId"], job["startTime"]): job for job in scene.double.jobs}
    refused = refused_keys(scene)
    running = {key: job for key, job in listed.items() if job["jobState"] == "running"}
    assert set(running) == set(active) - refused
    for key, job in running.items():
        told = {
            r["hostname"]: (tuple(r["hwthreads"]), tuple(r.get("accelerators", ()))) for r in job["resources"]
        }
        t = active[key]
        assert told == {host: (t.hwthreads[host], t.accelerators[host]) for host in t.hwthreads}
        assert job["numHwthreads"] == sum(len(threads) for threads, _ in told.values())
    endings = live.read_endings(scene.cluster)
    for key, job in listed.items():
        if job["jobState"] != "running":
            assert_ended_as_told(endings, key, job["jobState"], job["stopTime"])


def assert_ended_as_told(endings: dict[Key, tuple[str, int]], key: Key, state: str, end: int) -> None:
    if key in endings:
        assert (state, end) == (ledger_state(endings[key][0]), endings[key][1])
    else:
        told, told_end = endings[key[0], 0]  # a requeued run whose start accounting has lost
        assert (state, told) == ("cancelled", "REQUEUED")
        assert max(key[1], told_end) <= end <= told_end + 60


def refused_keys(scene: Scene) -> set[Key]:
    part = json.loads((scene.folder / "state" / "noctua.json").read_text())["backends"]["cc-backend"]
    names = (name.split("@") for name in part["refused"])
    return {(int(job_id), int(start)) for job_id, start in names}


def assert_portal_true(scene: Scene, active: dict[Key, live.Truth]) -> None:
    with scene.redis.client() as client:
        jobs = [json.loads(entry) for entry in client.lrange("noctua_jobs", 0, -1)]
        sums = client.hgetall("noctua_cluster_job")
        nodes = client.hgetall("noctua_cluster_node")
    held = {(job["job_id"], job["start_time"]) for job in jobs if job["state"] in ("RUNNING", "SUSPENDED")}
    assert held == set(active)
    running = [t for t in active.values() if t.state == "RUNNING"]
    assert sums["running_jobs"] == str(len(running))
    assert sums["running_users"] == str(len({t.user for t in running}))
    assert int(nodes["gpu_card_alloc"]) == sum(
        len(c) for t in active.values() for c in t.accelerators.values()
    )
    assert int(nodes["all_node_tot"]) == len(scene.cluster.node_names)
    tot, free, error, alloc = (int(nodes[f"all_cpu_{word}"]) for word in ("tot", "free", "error", "alloc"))
    assert tot == free + error + alloc


def assert_nothing_new(scene: Scene) -> None:
    """A second pass writes no job at all."""
    posts, before = scene.posts(), scene.archived()
    assert scene.sync() == sync.OK
    assert (scene.posts(), scene.archived()) == (posts, before)


def test_jobs_of_three_users_are_started_with_the_cores_and_cards_that_they_hold(scene: Scene) -> None:
    scene.submit("single", "sleep 900", "-n2", user="games")
    scene.submit("multi", "sleep 900", "-N2", "-n6", "-w", "n[1-2]", user="news")
    scene.submit("exclusive", "sleep 900", "-N1", "--exclusive", "-w", "n3", user="backup")
    scene.submit("array", "sleep 900", "-a", "0-6:2%2", "-w", "n1", user="games")
    scene.submit("gpu", "sleep 900", "--gres=gpu:2", "-N2", "-n2", "-w", "g[1-2]", user="backup")
    scene.submit("hostile\nJobId=1 name\x1b[31m|x", "sleep 900", "-w", "n2", user="games")
    scene.submit("limited", "sleep 900", "-t1", "-w", "n2", user="news")
    scene.submit("waiting", "sleep 900", "-N5", "--exclusive", user="news")
    scene.jobs["het"] = scene.cluster.submit(
        "sleep 900",
        "-J",
        "het",
        "-n1",
        "--mem=50",
        "-w",
        "n1",
        ":",
        "-n1",
        "--mem=50",
        "--gres=gpu:1",
        user="news",
    )
    command = ["srun", "-J", "interactive", "-n1", "--mem=50", "-w", "g1", "sleep", "900"]
    environment = {**scene.cluster.env, "HOME": "/tmp"}
    scene.interactive.append(subprocess.Popen(command, env=environment, user="games", cwd="/tmp"))
    for name in ("single", "multi", "exclusive", "gpu", "limited", "het"):
        scene.await_state(name, "RUNNING")
    scene.cluster.wait_until(lambda: "interactive" in running_names(scene), 40, "the interactive job runs")
    assert scene.sync() == sync.OK
    assert_true(scene)
    assert_nothing_new(scene)


def running_names(scene: Scene) -> str:
    return scene.cluster.run(["squeue", "-h", "-t", "R", "-o", "%j"], "root")


def test_scripts_come_from_the_arrays_and_the_leaders_folder(scene: Scene) -> None:
    scripts = {row["name"]: row["script"] for row in scene.archived()}
    assert scripts["array"] == scripts["het"] == scripts["single"] == "#!/bin/sh\nsleep 900\n"
    assert scripts["interactive"] is None


def test_the_listings_text_and_the_json_of_the_same_moment_give_the_same_records(scene: Scene) -> None:
    separator = queue.new_separator()
    squeue = scene.cluster.commands["squeue"]
    columns = queue.listing_arguments(separator)
    shell = ["env", "SLURM_TIME_FORMAT=%s", "SLURM_BITSTR_LEN=0", squeue]
    text = scene.cluster.run([*shell, *columns], "root").encode("utf-8", "surrogateescape")
    answer = scene.cluster.run([*shell, "-a", "-t", "all", "--local", "--json"], "root").encode()
    of_text = {job.job_id: job for job in queue.parse_listing(text, separator, "noctua")}
    of_json = {job.job_id: job for job in queue.parse_listing_json(answer, "noctua")}
    assert of_text == of_json
    assert len(of_text) >= 13


def test_suspended_cancelled_failed_requeued_and_short_runs_are_told_with_their_ends(scene: Scene) -> None:
    scene.submit("failing", "exit 3", "-w", "n2", user="games")
    scene.submit("short", "exit 0", "-w", "n2", user="backup")
    scene.cluster.run(["scontrol", "suspend", str(scene.jobs["multi"])], "root")
    scene.cluster.run(["scancel", str(scene.jobs["gpu"]), str(scene.jobs["waiting"])], "root")
    scene.cluster.run(["scontrol", "requeue", str(scene.jobs["single"])], "root")
    scene.await_state("failing", "FAILED")
    scene.await_state("short", "COMPLETED")
    scene.await_state("gpu", "CANCELLED")
    scene.await_state("single", "PENDING")
    await_accounting(scene, "single", "gpu", "failing", "short")
    assert scene.sync() == sync.OK
    assert_true(scene)
    by_name = {row["name"]: row for row in scene.archived()}
    assert by_name["multi"]["state"] == "suspended"
    assert by_name["failing"]["state"] == "failed"
    assert by_name["short"]["state"] == "completed"
    assert by_name["gpu"]["state"] == "cancelled"
    assert "waiting" not in by_name
    assert_nothing_new(scene)


def await_accounting(scene: Scene, *names: str) -> None:
    wanted = {scene.jobs[name] for name in names}
    scene.cluster.wait_until(
        lambda: wanted <= {job for job, _ in live.read_endings(scene.cluster)},
        40,
        "accounting has the endings",
    )


def test_a_requeued_run_is_another_run_that_cc_backend_cannot_hold(scene: Scene) -> None:
    scene.await_state("single", "RUNNING", timeout_s=60)
    scene.cluster.run(["scontrol", "resume", str(scene.jobs["multi"])], "root")
    scene.double.commit_cache()
    assert scene.sync() == sync.FAULT  # the refusal is said once
    assert_true(scene)
    runs = [row for row in scene.archived() if row["job_id"] == scene.jobs["single"]]
    assert [row["state"] for row in runs] == ["cancelled", "running"]
    assert (scene.jobs["single"], runs[1]["start_time"]) in refused_keys(scene)
    assert_nothing_new(scene)


def test_with_slurmdbd_down_jobs_start_and_stop_and_the_portal_lives_on(scene: Scene) -> None:
    scene.cluster.stop_slurmdbd()
    scene.submit("late", "sleep 900", "-w", "n1", user="backup")
    scene.submit("quick", "exit 0", "-w", "n1", user="backup")
    scene.cluster.run(["scancel", f"{scene.jobs['array']}_2"], "root")
    scene.await_state("late", "RUNNING")
    scene.await_state("quick", "COMPLETED")
    scene.cluster.wait_until(lambda: not completing(scene), 40, "nothing is completing")
    assert scene.sync() == sync.FAULT
    truth = live.read_truth(scene.cluster)
    assert_portal_true(scene, {k: t for k, t in truth.items() if t.state in ("RUNNING", "SUSPENDED")})
    states = {row["job_id"]: row["state"] for row in scene.archived()}
    assert states[scene.jobs["late"]] == "running"
    assert scene.jobs["quick"] not in states
    assert [row["state"] for row in scene.archived() if row["array_task_id"] == 2] == ["cancelled"]


def completing(scene: Scene) -> str:
    return scene.cluster.run(["squeue", "-h", "-t", "CG"], "root").strip()


def test_when_slurmdbd_returns_what_was_held_is_there(scene: Scene) -> None:
    scene.cluster.start_slurmdbd()
    await_accounting(scene, "quick")
    assert scene.sync() == sync.OK
    assert_true(scene)
    assert {row["state"] for row in scene.archived() if row["name"] == "quick"} == {"completed"}


def test_a_run_that_reaches_its_limit_is_told_as_timed_out(scene: Scene) -> None:
    scene.await_state("limited", "TIMEOUT", timeout_s=120)
    await_accounting(scene, "limited")
    assert scene.sync() == sync.OK
    assert_true(scene)
    assert {row["state"] for row in scene.archived() if row["name"] == "limited"} == {"timeout"}
    assert_nothing_new(scene)


def test_with_slurmctld_down_nothing_is_changed_anywhere(scene: Scene) -> None:
    before = portal_keys(scene.redis.client()), scene.archived(), scene.posts()
    scene.cluster.stop_slurmctld()
    assert scene.sync() == sync.NO_QUEUE
    assert (portal_keys(scene.redis.client()), scene.archived(), scene.posts()) == before
    scene.cluster.start_slurmctld()


def portal_keys(client: Redis) -> dict[str, bytes | None]:
    with client:
        return {str(key): client.dump(key) for key in sorted(client.keys("*"))}


def test_all_gone_is_all_ended(scene: Scene) -> None:
    for user in ("games", "news", "backup"):
        scene.cluster.run(["scancel", "-u", user], "root")
    scene.cluster.wait_until(lambda: not live_jobs(scene), 60, "no job is left")
    scene.cluster.wait_until(lambda: is_idle(scene), 60, "all nodes are idle, no card is used")
    runs = {(row["job_id"], row["start_time"]) for row in scene.archived() if row["end_time"] is None}
    scene.cluster.wait_until(lambda: runs <= set(live.read_endings(scene.cluster)), 40, "all are accounted")
    assert scene.sync() == sync.OK
    assert_true(scene)
    assert all(row["end_time"] is not None for row in scene.archived())


def live_jobs(scene: Scene) -> str:
    return scene.cluster.run(["squeue", "-h", "-t", "PD,R,S,CG,CF"], "root").strip()


def is_idle(scene: Scene) -> bool:
    nodes = scene.cluster.run(["scontrol", "show", "node", "-d"], "root")
    return "CPUAlloc=0" in nodes and not any(f"GresUsed=gpu:a100:{n}" in nodes for n in range(1, 5))
