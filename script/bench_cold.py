"""The applying step of a cold start against a bare loop that posts the same bodies, for script/bench.

Each begins with a server that holds none of the jobs. The pass runs in this process, for its report has
the seconds of each step.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import requests
from bench_answers import CLUSTER, COMMANDS, write_answers
from bench_jobs import Site
from bench_targets import TOKEN, Double

from backends.base import Deadline, Secret
from backends.clustercockpit import ClusterCockpit
from conduct import Pass, Report, Rules
from hardware import Hardware
from memory import Memory
from model import Run
from plan import Selection
from remember import part_for
from shell import LocalShell
from slurm.commands import Programs, SlurmCommands
from survey import Filters
from targets import Target

GOAL = 0.8
CONNECTIONS = 4  # as many as the backend has by default
TIMEOUT_S = 120.0


class Ground(NamedTuple):
    """Slurm's answers, and a cc-backend that holds none of the jobs in them."""

    answers: Path
    cluster: str
    url: str
    token: str


Fresh = Callable[[], AbstractContextManager[Ground]]


def on_doubles(folder: Path, site: Site) -> Fresh:
    """The same jobs each time, and each time a server of its own."""
    answers = folder / "cold"
    clusters = write_answers(answers, site)

    @contextmanager
    def fresh() -> Iterator[Ground]:
        with Double(folder, clusters) as double:
            yield Ground(answers, CLUSTER, double.url, TOKEN)

    return fresh


def on_real(folder: Path, site: Site, cluster: str, url: str, token: str) -> Fresh:
    """The same server, and each time jobs that it does not hold."""

    @contextmanager
    def fresh() -> Iterator[Ground]:
        first_id = random.randrange(10**6, 10**12)
        answers = folder / f"cold-{first_id}"
        write_answers(answers, site._replace(first_id=first_id, now=int(time.time())))
        yield Ground(answers, cluster, url.rstrip("/"), token)

    return fresh


def measure(fresh: Fresh, repeat: int) -> dict[str, Any]:
    """Jobs a second, each way in turn; which one begins changes."""
    ways: list[tuple[str, Callable[[Ground], float]]] = [
        ("pass", apply),
        ("bare loop, 1 connection", lambda ground: post(ground, 1)),
        (f"bare loop, {CONNECTIONS} connections", lambda ground: post(ground, CONNECTIONS)),
    ]
    found: dict[str, list[float]] = {name: [] for name, _ in ways}
    for at in range(repeat):
        for name, way in ways[at % 3 :] + ways[: at % 3]:
            with fresh() as ground:
                found[name].append(way(ground))
    jobs_s = {name: median(rates) for name, rates in found.items()}
    # Of neighbours in time, so that what else the machine does strikes both.
    pairs = {name: zip(found["pass"], rates, strict=True) for name, rates in found.items()}
    ratios = {name: median(ours / theirs for ours, theirs in both) for name, both in pairs.items()}
    ratio = ratios[ways[1][0]]
    goal = (ratio >= GOAL, f"{ratio:.2f} of what a bare loop reaches (goal: at least {GOAL})")
    return {"jobs_s": jobs_s, "ratios": ratios, "goals": [goal]}


def apply(ground: Ground) -> float:
    report = _pass(ground, dry_run=False)
    started = report.targets[0].applied.started
    if not started or report.faults or report.targets[0].applied.failed:
        sys.exit(f"the cold start started {started} jobs: {report.faults}")
    return started / report.seconds["apply"]


def post(ground: Ground, connections: int) -> float:
    """What a script of ten lines does."""
    starts = _pass(ground, dry_run=True).targets[0].plan.starts
    bodies = [msgspec.json.encode(start.body) for start in starts]
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        shares = [bodies[at::connections] for at in range(connections)]
        codes = [code for share in pool.map(lambda share: _post_all(ground, share), shares) for code in share]
    took = time.perf_counter() - began
    if codes.count(201) != len(bodies) or not bodies:
        sys.exit(f"the bare loop was answered {sorted(set(codes))} for {len(bodies)} jobs")
    return len(bodies) / took


def _post_all(ground: Ground, bodies: Sequence[bytes]) -> list[int]:
    headers = {"Authorization": f"Bearer {ground.token}", "Content-Type": "application/json"}
    with requests.Session() as session:
        session.headers.update(headers)
        url = f"{ground.url}/api/jobs/start_job/"
        return [session.post(url, data=body, timeout=10).status_code for body in bodies]


def _pass(ground: Ground, *, dry_run: bool) -> Report:
    programs = dict(zip(COMMANDS, (str(ground.answers / name) for name in COMMANDS), strict=True))
    source = SlurmCommands(LocalShell(os.environ), Programs(**programs), ground.cluster, lambda: TIMEOUT_S)
    section: Any = msgspec.convert(
        {"host": ground.url, "apikey": ground.token, "node_states": False},
        ClusterCockpit.Section,
        dec_hook=lambda _, value: Secret(value),
    )
    backend = ClusterCockpit(section, ground.cluster)
    memory = Memory(cluster=ground.cluster)
    target = Target("cc-backend", backend, part_for(memory, "cc-backend", backend.identity()))
    rules = Rules(
        cluster=ground.cluster,
        filters=Filters(),
        hardware=Hardware({}, None),
        selection=Selection(),
        catch_up_max_s=3_600,
        orphan_after_s=86_400,
        attach=_as_it_is,
        dry_run=dry_run,
    )
    try:
        return Pass(source, [target], memory, rules, Deadline(TIMEOUT_S)).run(lambda total: lambda: None)
    finally:
        backend.close()


def _as_it_is(run: Run) -> Run:
    return run
