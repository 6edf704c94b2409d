"""Runs, jobs, listings and accounting records for the tests of the pure parts."""

from __future__ import annotations

import msgspec
from fake_source import NOW, FakeSlurm

from model import Job, Run, RunKey
from slurm.accounting import Accounted
from survey import View


def key(job_id: int, start_time: int = NOW - 60) -> RunKey:
    return RunKey("noctua", job_id, start_time)


def view_of(*active: RunKey, **fields: object) -> View:
    jobs = {run: job_of(run) for run in active}
    return msgspec.structs.replace(View("noctua", NOW, active=jobs, alive=set(jobs)), **fields)


def job_of(run: RunKey, **fields: object) -> Job:
    slurm = FakeSlurm()
    slurm.clock = run.start_time
    slurm.run(job_id=run.job_id)
    return msgspec.structs.replace(slurm.read_listing().jobs[0], **fields)


def accounted(run: RunKey, state: str = "COMPLETED", end_time: int = NOW - 10) -> Accounted:
    return Accounted(Run(run, "ada", "physics", "normal", state, (), 4, 0, "n2cn001"), end_time)
