"""`--check`: is all in order for a pass? A line each, with the remedy. Writes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from applying import say_unexpected
from backends.base import UNEXPECTED, Backend, Facts, Finding, Ledger, TargetError
from hardware import Hardware, by_host, place
from memory import StateError, load
from model import Job, Node, Run
from settings import Settings
from slurm import statesave
from slurm.commands import SlurmCommands
from slurm.source import Source, SourceError


class _Seen:
    """What Slurm showed."""

    def __init__(self) -> None:
        self.jobs: tuple[Job, ...] | None = None  # None: the queue could not be read
        self.runs: tuple[Run, ...] = ()
        self.nodes: dict[str, Node] = {}


def print_findings(settings: Settings, source: Source, backends: list[tuple[str, Backend]]) -> int:
    """0 if all is well, else 1."""
    well = True
    for finding in findings(settings, source, backends):
        well &= finding.ok
        remedy = f"; {finding.remedy}" if finding.remedy and not finding.ok else ""
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.text}{remedy}")  # noqa: T201
    return 0 if well else 1


def findings(settings: Settings, source: Source, backends: list[tuple[str, Backend]]) -> Iterator[Finding]:
    yield Finding(True, f"configuration {settings.file} for cluster {settings.clustername}")
    yield from _files(settings)
    yield from _programs(settings, source)
    seen = _Seen()
    yield from _slurm(source, seen)
    for name, backend in backends:
        try:
            yield from _backend(name, backend, settings, seen)
        except UNEXPECTED as error:
            yield Finding(False, f"{name}: {say_unexpected(error)}")


def _backend(name: str, backend: Backend, settings: Settings, seen: _Seen) -> Iterator[Finding]:
    for finding in backend.check():
        yield Finding(finding.ok, f"{name}: {finding.text}", finding.remedy)
    if isinstance(backend, Ledger):
        yield from _orphans(name, backend, settings, seen)
        yield from _placement(name, backend, settings, seen)


def _files(settings: Settings) -> Iterator[Finding]:
    folder = settings.state_dir
    exists = folder.is_dir()
    near = folder if exists else next(parent for parent in folder.parents if parent.exists())
    made = "" if exists else " (will be made)"
    yield Finding(
        os.access(near, os.W_OK), f"state folder {folder}{made}", "it cannot be written: run as its owner"
    )
    try:
        memory, problem = load(folder / f"{settings.clustername}.json", settings.clustername)
        done = max((part.completed_at for part in memory.backends.values()), default=0)
        when = datetime.fromtimestamp(done).astimezone().isoformat(" ") if done else "never"
        yield Finding(not problem, problem or f"state file: last complete pass: {when}")
    except StateError as error:
        yield Finding(False, str(error))
    if settings.script == "full" or settings.environment != "none":
        yield _scripts(settings)


def _scripts(settings: Settings) -> Finding:
    directory: Path | None = settings.slurm.state_save_location
    if directory is None:
        if settings.slurm.recording is not None:
            return Finding(True, "job scripts come from the recording")
        return Finding(
            False, "no slurm.state_save_location: job scripts are not sent", 'set it, or "script": "none"'
        )
    try:
        statesave.check_directory(directory)
        return Finding(True, f"job scripts from {directory}")
    except statesave.StateSaveError as error:
        return Finding(False, str(error))


def _programs(settings: Settings, source: Source) -> Iterator[Finding]:
    if not isinstance(source, SlurmCommands):
        yield Finding(True, f"a recording instead of a cluster: {settings.slurm.recording}")
        return
    slurm = settings.slurm
    for name in (slurm.squeue, slurm.sacct, slurm.scontrol, slurm.sinfo, slurm.sdiag):
        if name is not None:
            found = shutil.which(name)
            yield Finding(found is not None, found or f"{name}: not found", "set its path under slurm")
    try:
        year, month = source.version
        yield Finding(True, f"Slurm {year}.{month:02d}")
    except SourceError as error:
        yield Finding(False, str(error))


def _slurm(source: Source, seen: _Seen) -> Iterator[Finding]:
    try:
        listing = source.read_listing()
    except SourceError as error:
        yield Finding(False, str(error), "is slurmctld up? does SLURM_CONF point to its slurm.conf?")
        return
    seen.jobs = listing.jobs
    users = {job.user for job in listing.jobs}
    yield Finding(True, f"the queue: visible are {len(listing.jobs)} jobs, of {len(users)} users")
    if os.geteuid() != 0 and len(users) <= 1:
        yield Finding(
            False,
            "only one user's jobs are visible",
            "run as root, SlurmUser or an operator, if others run jobs",
        )
    try:
        seen.nodes = {node.name: node for node in source.read_nodes()}
        yield Finding(True, f"{len(seen.nodes)} nodes")
        active = [job.job_id for job in listing.jobs if job.state == "RUNNING"][:200]
        seen.runs = runs = source.read_details(active, seen.nodes) if active else ()
        told = sum(all(a.cores is not None for a in run.allocations) for run in runs)
        yield Finding(
            told == len(runs), f"cores are told of {told} of {len(runs)} running jobs", "the rest: hosts only"
        )
    except SourceError as error:
        yield Finding(False, str(error))
    yield from _accounting(source)


def _accounting(source: Source) -> Iterator[Finding]:
    if not source.has_accounting:
        yield Finding(True, "no accounting: endings come from squeue alone, so run a pass each minute")
        return
    try:
        now = source.now()
        source.read_window(now - 600, now)
        backlog = source.read_backlog()
        yield Finding(
            backlog == 0, f"accounting answers; slurmdbd lags by {backlog} records", "look at slurmdbd"
        )
    except SourceError as error:
        yield Finding(False, str(error), "without accounting, set slurm.sacct to false")


def _orphans(name: str, ledger: Ledger, settings: Settings, seen: _Seen) -> Iterator[Finding]:
    """Runs that it holds as running, that Slurm does not list, and that no pass has ever seen active.

    Nothing here ever writes them off: they may be another tool's, or of the time before this one.
    """
    if seen.jobs is None:
        return
    try:
        running = ledger.read_running()
        memory, _ = load(settings.state_dir / f"{settings.clustername}.json", settings.clustername)
    except (TargetError, StateError):
        return  # said elsewhere
    listed = {job.key for job in seen.jobs}
    part = memory.backends.get(name)
    watched = {key for key, run in part.watched.items() if run.last_seen} if part is not None else set()
    orphans = sorted(key for key in running if key not in listed and str(key) not in watched)
    shown = ", ".join(str(key) for key in orphans[:5])
    text = f"{name}: {len(orphans)} runs stand there as running that Slurm does not list ({shown})"
    yield Finding(True, text if orphans else f"{name}: all that it holds as running is known")


def _placement(name: str, ledger: Ledger, settings: Settings, seen: _Seen) -> Iterator[Finding]:
    """One worked example for each kind of node; the nodes that the target lacks."""
    try:
        facts: Facts = ledger.read_facts(None)
    except TargetError:
        return  # its own check has said so
    topology = by_host(facts.topology)
    if topology is not None:
        lacking = sorted(set(seen.nodes) - set(topology))
        remedy = "jobs on them are refused: extend its cluster.json, or ignore_hosts"
        text = f"{name}: does not know {len(lacking)} nodes ({', '.join(lacking[:5])})"
        yield Finding(not lacking, text if lacking else f"{name}: knows all nodes", remedy)
    hardware = Hardware(seen.nodes, topology, settings.accelerators, settings.hwthread_numbering)
    kinds: set[tuple[int, int, int]] = set()
    for run in seen.runs:
        node = seen.nodes.get(run.hosts[0])
        kind = (node.sockets, node.cores_per_socket, node.threads_per_core) if node else (0, 0, 0)
        if kind in kinds:
            continue
        kinds.add(kind)
        placement, problems = place(run, hardware)
        first = placement.resources[0]
        text = f"{name}: e.g. job {run.key.job_id} on {first.host}: cores {run.allocations[0].cores} are"
        text += f" hardware threads {first.hwthreads}, accelerators {list(first.accelerators)}"
        remedy = "name them under `accelerators`" if any("accelerator" in p for p in problems) else ""
        yield Finding(not problems, "; ".join([text, *problems]), remedy)
