"""Two passes of slurm-sync into a job archive and a Redis, and what they left there.

On a throw-away Slurm where one can be had, else on recordings. Everything lies in a temporary folder
that goes away again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from throwaway import Cluster, ClusterError, NodeSpec

ROOT = Path(__file__).resolve().parent.parent
RECORDINGS = ROOT / "tests" / "data" / "slurm-25.11"
ROWS = """select job_id as job, array_task_id as task, user, state, time(started) as started,
                 time(ended) as ended, node_list as nodes, num_hwthreads as threads, num_acc as gpus
            from runs order by start_time, job_id"""
PORTAL_FIELDS = ("running_jobs", "pending_jobs", "running_users", "pending_users", "running_top5")

console = Console(highlight=False, markup=False, width=100 if not sys.stdout.isatty() else None)


def main(why_not: str) -> int:
    with tempfile.TemporaryDirectory(prefix="slurm-sync-demo-") as name:
        folder = Path(name)
        with redis_server(folder) as url:
            if why_not:
                console.print(
                    f"No throw-away Slurm: {why_not}. Recordings of a real one (25.11) serve instead."
                )
                return on_recordings(folder, url)
            try:
                return on_cluster(folder, url)
            except ClusterError as error:
                console.print(f"The throw-away Slurm failed: {error}")
                return 1


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str | None]:
    """A Redis of our own on a socket; None where there is no redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        console.print("No redis-server here: the status portal is left out.")
        yield None
        return
    socket = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists() and server.poll() is None:
            time.sleep(0.05)
        yield f"unix://{socket}"
    finally:
        server.terminate()
        server.wait()


def on_recordings(folder: Path, url: str | None) -> int:
    for moment in ("t0", "t1"):
        headline(f"Pass on the recording of moment {moment}")
        config = write_config(folder, {"recording": str(RECORDINGS / moment)}, url)
        if moment == "t0":
            sync(config, "--dry-run")
        if sync(config):
            return 1
    show(folder, url)
    return 0


def on_cluster(folder: Path, url: str | None) -> int:
    console.print("Starting a throw-away Slurm of three nodes with two CPUs each …")
    with Cluster(folder / "slurm", nodes=[NodeSpec("n[1-3]")]) as cluster:
        os.environ.update(cluster.env)
        state_save = str(cluster.state_save)
        config = write_config(folder, {**cluster.commands, "state_save_location": state_save}, url)
        job = cluster.submit("srun -n6 sleep 8", "-n6", "-J", "six-tasks", user="games")
        array = cluster.submit("sleep 60", "-a", "0-3", "-J", "small-array", user="news")
        cluster.wait_until(lambda: cluster.state_of(job) == "RUNNING", 30, "the job runs")
        headline("What a first pass would do (--dry-run)")
        sync(config, "--dry-run")
        headline("First pass: the six-task job runs, the array waits")
        if sync(config):
            return 1
        cluster.wait_until(lambda: cluster.state_of(job) == "COMPLETED", 60, "the job has ended")
        cluster.wait_until(lambda: "RUNNING" in cluster.state_of(f"{array}_0"), 60, "the array runs")
        headline("Second pass: the job has ended, the array runs")
        if sync(config):
            return 1
        show(folder, url)
    return 0


def write_config(folder: Path, slurm: dict[str, Any], url: str | None) -> Path:
    config: dict[str, Any] = {
        "clustername": "demo",
        "state_dir": str(folder / "state"),
        "slurm": slurm,
        "sqlite": {"path": str(folder / "jobs.db")},
    }
    if url is not None:
        config["redis"] = {"url": url}
    path = folder / "config.json"
    path.write_text(json.dumps(config, indent=2))
    return path


def sync(config: Path, *options: str) -> int:
    command = [sys.executable, "-B", str(ROOT / "sync.py"), "-c", str(config), *options]
    console.print(f"$ sync.py -c config.json {' '.join(options)}", style="bold")
    return subprocess.run(command, check=False).returncode


def headline(text: str) -> None:
    console.print()
    console.rule(text, characters="-")


def show(folder: Path, url: str | None) -> None:
    headline("The archive: sqlite3 jobs.db 'select … from runs'")
    with contextlib.closing(sqlite3.connect(folder / "jobs.db")) as archive:
        rows = archive.execute(ROWS)
        table = Table(*[column[0] for column in rows.description], box=None)
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)
    if url is not None:
        show_portal(url)


def show_portal(url: str) -> None:
    import redis

    headline("The status portal's numbers: Redis, HGETALL demo_cluster_brief and _job")
    with redis.Redis.from_url(url, decode_responses=True) as client:
        brief: Any = client.hgetall("demo_cluster_brief")
        jobs: Any = client.hgetall("demo_cluster_job")
    fields = {**brief, **{name: jobs[name] for name in PORTAL_FIELDS}}
    table = Table(box=None, show_header=False)
    for field, value in fields.items():
        table.add_row(field, value)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
