#!/usr/bin/env python3
"""One pass, from the command line to the exit code. cron or a timer starts it every minute.

Wires the configuration to the parts and turns what they raise into exit codes; the steps of a pass are
conduct.py's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

import arguments
import remember
import report as reporting
from backends import backend_class
from backends.base import Backend, Deadline
from conduct import Pass, Report, Rules
from hardware import Hardware
from memory import BackendMemory, LockHeldError, Memory, StateError, load, locked, save
from model import Run
from plan import Selection
from settings import ConfigError, Settings, load_settings, show_settings
from shell import LocalShell
from slurm import statesave
from slurm.commands import Programs, SlurmCommands
from slurm.recording import Recording
from slurm.source import Source, SourceError
from survey import Filters
from targets import Target

OK, FAULT, USAGE, NO_QUEUE, UNSAFE = range(5)
INTERRUPTED = 130  # as a shell reports SIGINT

log = logging.getLogger("slurm-sync")


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments.parse(argv)
    _set_up_log(args.debug, args.quiet)
    try:
        settings = load_settings(args.config, environ=os.environ, only_backends=args.backend)
        if args.show_config or args.check:
            _say_warnings(settings)
        if args.show_config:
            print("\n".join(show_settings(settings)))  # noqa: T201 - what was asked for
            return OK
        if args.check:
            return _check(settings)
        return _sync(settings, args)
    except ConfigError as error:
        log.error("%s", error)
        return USAGE
    except StateError as error:
        log.error("%s", error)
        return FAULT


def _set_up_log(debug: bool, quiet: bool) -> None:
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s")
    # These print requests, and with them what is none of a log's business.
    for name in ("urllib3", "requests", "redis"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _check(settings: Settings) -> int:
    import check

    deadline = Deadline(settings.pass_timeout_s)
    with _backends(settings) as backends:
        return check.print_findings(settings, make_source(settings, deadline), backends)


def _sync(settings: Settings, args: Namespace) -> int:
    path = settings.state_dir / settings.clustername
    if settings.only_on_active and not args.dry_run and _is_idle_controller(settings):
        log.info("this is the idle controller of a pair; nothing done")
        return OK
    if args.dry_run:
        return _pass(settings, args, path.with_name(path.name + ".json"))
    try:
        with locked(path.with_name(path.name + ".lock")):
            return _pass(settings, args, path.with_name(path.name + ".json"))
    except LockHeldError as error:
        stuck = error.age_s > 2 * settings.pass_timeout_s
        log.log(logging.ERROR if stuck else logging.INFO, "%s; nothing done", error)
        return FAULT if stuck else OK


def _is_idle_controller(settings: Settings) -> bool:
    """Whether another host is in control. Where none answers, the pass finds out why."""
    source = make_source(settings, Deadline(settings.pass_timeout_s))
    if not isinstance(source, SlurmCommands):
        return False
    try:
        active = source.read_active_controller()
    except SourceError:
        return False
    return active is not None and active.split(".")[0] != socket.gethostname().split(".")[0]


def _pass(settings: Settings, args: Namespace, state: Path) -> int:
    memory, problem = load(state, settings.clustername)
    deadline = Deadline(settings.pass_timeout_s)
    source = make_source(settings, deadline)
    try:
        now = source.now()
    except SourceError as error:
        log.error("%s", error)
        return NO_QUEUE
    with reporting.said_hourly({} if args.debug else memory.said, now, args.quiet):
        _say_warnings(settings)
        if problem:
            log.warning("%s", problem)
        pause_s = remember.must_pause(memory, now)
        if pause_s and not args.dry_run:
            log.info("Slurm failed %d times in a row; asked again in %d s", memory.slurm_failures, pause_s)
            return NO_QUEUE
        try:
            return _run(settings, args, source, memory, deadline)
        finally:  # whatever happened: what was accepted must not be forgotten
            if not args.dry_run:
                save(state, memory)


def _say_warnings(settings: Settings) -> None:
    for warning in settings.warnings:
        log.warning("%s", warning)


def _run(settings: Settings, args: Namespace, source: Source, memory: Memory, deadline: Deadline) -> int:
    try:
        report = _conduct(settings, args, source, memory, deadline)
    except SourceError as error:
        log.error("the queue could not be read, nothing is changed: %s", error)
        memory.slurm_failures, memory.slurm_failed_at = memory.slurm_failures + 1, source.now()
        return NO_QUEUE
    memory.slurm_failures = 0
    return _finish(report, args)


def _conduct(
    settings: Settings,
    args: Namespace,
    source: Source,
    memory: Memory,
    deadline: Deadline,
) -> Report:
    with _backends(settings) as backends:
        targets = [Target(name, b, _part(memory, name, b)) for name, b in backends]
        one_pass = Pass(source, targets, memory, _rules(settings, args), deadline)
        with reporting.progress(sys.stderr.isatty() and not args.quiet) as tick:
            return one_pass.run(tick)


def _part(memory: Memory, name: str, backend: Backend) -> BackendMemory:
    return remember.part_for(memory, name, backend.identity())


def _finish(report: Report, args: Namespace) -> int:
    """Say what was done; the exit code."""
    if args.json:
        sys.stdout.buffer.write(reporting.plan_json(report) + b"\n")
    elif args.dry_run:
        reporting.print_plan(report)
    log.info("%s", reporting.summary(report))
    if report.faults or any(t.applied.failed or t.applied.refused for t in report.targets):
        return FAULT
    return UNSAFE if any(t.plan.unsafe for t in report.targets) else OK


@contextlib.contextmanager
def _backends(settings: Settings) -> Iterator[list[tuple[str, Backend]]]:
    made: list[tuple[str, Backend]] = []
    try:
        for section in settings.backends:
            kind = backend_class(section.reference, settings.file.absolute().parent)
            made.append((section.name, kind(section.section, settings.clustername)))
        yield made
    finally:
        for _, backend in made:
            backend.close()


def make_source(settings: Settings, deadline: Deadline) -> Source:
    """The live cluster or a recording."""
    slurm = settings.slurm
    if slurm.recording is not None:
        if not slurm.recording.is_dir():
            raise ConfigError(f"{settings.file}: slurm.recording: {slurm.recording} is no folder")
        return Recording(slurm.recording, settings.clustername)
    programs = Programs(slurm.squeue, slurm.sacct, slurm.scontrol, slurm.sinfo, slurm.sdiag)
    shell = LocalShell(os.environ)
    return SlurmCommands(
        shell, programs, settings.clustername, lambda: min(slurm.timeout_s, deadline.left_s())
    )


def _rules(settings: Settings, args: Namespace) -> Rules:
    return Rules(
        cluster=settings.clustername,
        filters=Filters(settings.node_regex, frozenset(settings.ignore_hosts), settings.opt_out),
        hardware=Hardware({}, None, settings.accelerators, settings.hwthread_numbering),
        selection=Selection(args.jobid, args.limit, args.direction, args.force),
        catch_up_max_s=settings.catch_up_max_s,
        orphan_after_s=settings.orphan_after_s,
        attach=_attach(settings),
        dry_run=args.dry_run,
        jobs="jobs" in args.only,
        nodes="nodes" in args.only,
    )


def _attach(settings: Settings) -> Callable[[Run], Run]:
    """Gives a run its script and environment, as far as the configuration wants them sent."""
    recording = settings.slurm.recording
    directory = settings.slurm.state_save_location or (recording and recording / "state_save")
    if directory is None:
        return lambda run: run

    read: dict[int, tuple[str | None, str | None]] = {}  # once a pass: tasks of an array share them

    def attach(run: Run) -> Run:
        owner = statesave.owner_id(run)
        if owner not in read:
            read[owner] = _read_texts(directory, owner, settings)
        script, environment = read[owner]
        return msgspec.structs.replace(run, script=script, environment=environment)

    return attach


def _read_texts(directory: Path, owner: int, settings: Settings) -> tuple[str | None, str | None]:
    script = environment = None
    if settings.script == "full":
        script = statesave.read_script(directory, owner, settings.script_max_bytes)
    if settings.environment != "none":
        cap = settings.environment_max_bytes
        environment = statesave.read_environment(directory, owner, cap, settings.environment)
    return script, environment


def run() -> int:
    """main(), for a person who stops it or stops reading."""
    try:
        return main()
    except KeyboardInterrupt:
        log.error("interrupted; what was done so far is remembered")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the exit complains as well
        return FAULT


if __name__ == "__main__":
    sys.exit(run())
