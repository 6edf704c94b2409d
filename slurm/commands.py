"""A cluster asked by its commands: which command with which arguments, and whether its answer is whole.

What the answers mean is parsed next door. No command per job, ever; a pass runs one squeue, one command
for the nodes, and what the new and the missing runs need.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice

from model import Node, Run
from shell import Answer, CommandError, Shell, brief, whole
from slurm import accounting, cpu_ids, details, nodes, queue
from slurm.accounting import Accounted
from slurm.source import Listing, SourceError, parsed

BATCH = 500  # ids a command

_EPOCHS = {"SLURM_TIME_FORMAT": "%s"}
_COMPACT = {"SLURM_JSON": "compact"}  # from 25.05; earlier releases do not know it
_UNCUT = {"SLURM_BITSTR_LEN": "0"}  # else the waiting tasks of an array are cut at 64 bytes
_VERSION = re.compile(r"(\d+)\.(\d+)")
_CONTROLLER_UP = re.compile(r"^Slurmctld\(\w+\) at (\S+) is UP", re.MULTILINE)
_BACKLOG = re.compile(r"^DBD Agent queue size:\s*(\d+)", re.MULTILINE)


class Programs:
    """The names or paths of Slurm's commands. `sacct` None: there is no accounting here."""

    def __init__(self, squeue: str, sacct: str | None, scontrol: str, sinfo: str, sdiag: str) -> None:
        self.squeue, self.sacct, self.scontrol, self.sinfo, self.sdiag = squeue, sacct, scontrol, sinfo, sdiag


class SlurmCommands:
    """A Source: the live cluster."""

    def __init__(
        self,
        shell: Shell,
        programs: Programs,
        cluster: str,
        timeout_s: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shell, self._programs, self._cluster = shell, programs, cluster
        self._timeout_s, self._clock = timeout_s, clock
        self.has_accounting = programs.sacct is not None

    def now(self) -> int:
        return int(self._clock())

    @cached_property
    def version(self) -> tuple[int, int]:
        """The client's release as (year, month): no RPC. It chooses the query, not how answers are read."""
        answer = self._ask([self._programs.squeue, "--version"], {})
        match = _VERSION.search(answer.decode("utf-8", "replace"))
        if match is None:
            raise SourceError(f"{self._programs.squeue} --version: no release in its answer")
        return int(match[1]), int(match[2])

    def read_listing(self) -> Listing:
        read_at, separator = self.now(), queue.new_separator()
        argv = [self._programs.squeue, *queue.listing_arguments(separator)]
        answer = self._ask(argv, _EPOCHS | _UNCUT)
        return Listing(parsed(queue.parse_listing, answer, separator, self._cluster), read_at)

    def read_details(self, ids: Collection[int], known: Mapping[str, Node]) -> tuple[Run, ...]:
        runs: list[Run] = []
        for selection in self._selections(ids):
            argv = [self._programs.squeue, "-a", "-t", "all", "--local", "--json", *selection]
            runs += self._parse_details(self._ask_jobs(argv), ids, known)
        return cpu_ids.settle_cores(tuple(runs), known, self._read_cpu_ids)

    def _selections(self, ids: Collection[int]) -> Iterator[list[str]]:
        """Up to 23.11 --json ignores every filter, so one listing of all serves."""
        if self.version < (24, 5):
            yield []
            return
        for batch in batches(sorted(ids), BATCH):
            yield ["-j", ",".join(str(job_id) for job_id in batch)]

    def _ask_jobs(self, argv: Sequence[str]) -> bytes:
        answer = self._run(argv, _COMPACT)
        if answer.code != 0 and "Invalid job id" in answer.stderr:
            return b'{"jobs": [], "errors": []}'  # a single id that is gone; several give exit code 0
        return _whole(argv, answer)

    def _parse_details(
        self, answer: bytes, ids: Collection[int], known: Mapping[str, Node]
    ) -> tuple[Run, ...]:
        return parsed(details.parse_details, answer, self._cluster, frozenset(ids), known)

    def _read_cpu_ids(self) -> Mapping[int, cpu_ids.CpuIds]:
        argv = [self._programs.scontrol, "-a", "--local", "show", "job", "-d"]
        return cpu_ids.parse_cpu_ids(self._ask(argv, {}))

    def read_window(self, since: int, until: int) -> tuple[Accounted, ...]:
        separator = queue.new_separator()
        return self._read_sacct(accounting.window_arguments(separator, since, until), separator)

    def read_accounted(self, ids: Sequence[int], since: int, until: int) -> tuple[Accounted, ...]:
        found: list[Accounted] = []
        for batch in batches(ids, BATCH):
            separator = queue.new_separator()
            found += self._read_sacct(accounting.ids_arguments(separator, batch, since, until), separator)
        return tuple(found)

    def _read_sacct(self, arguments: list[str], separator: str) -> tuple[Accounted, ...]:
        if self._programs.sacct is None:
            raise SourceError("there is no accounting (slurm.sacct is false)")
        answer = self._ask([self._programs.sacct, *arguments], _EPOCHS)
        return parsed(accounting.parse_text, answer, separator, self._cluster)

    def read_active_controller(self) -> str | None:
        """The host whose slurmctld is in control; None: none answers. Of a pair the first that is up is."""
        argv = [self._programs.scontrol, "ping"]
        match = _CONTROLLER_UP.search(self._run(argv, {}).stdout.decode("utf-8", "replace"))
        return match[1] if match else None

    def read_backlog(self) -> int:
        match = _BACKLOG.search(self._ask([self._programs.sdiag], {}).decode("utf-8", "replace"))
        if match is None:
            raise SourceError(f"{self._programs.sdiag}: no size of slurmdbd's queue in its answer")
        return int(match[1])

    def read_nodes(self) -> tuple[Node, ...]:
        if self.version < (23, 2):  # scontrol has no --json yet, and sinfo's lists nodes one by one
            argv = [self._programs.sinfo, "-a", "--local", "--json"]
        else:
            argv = [self._programs.scontrol, "-a", "--local", "show", "nodes", "--json"]
        return parsed(nodes.parse_nodes, self._ask(argv, _COMPACT), argv[0])

    def _ask(self, argv: Sequence[str], extra: Mapping[str, str]) -> bytes:
        return _whole(argv, self._run(argv, extra))

    def _run(self, argv: Sequence[str], extra: Mapping[str, str]) -> Answer:
        try:
            return self._shell.run(argv, self._timeout_s(), extra)
        except CommandError as error:
            raise SourceError(str(error)) from error


def _whole(argv: Sequence[str], answer: Answer) -> bytes:
    try:
        stdout = whole(argv, answer)
    except CommandError as error:
        raise SourceError(str(error)) from error
    if "--json" in argv and not stdout:
        raise SourceError(f"{argv[0]}: an empty answer{brief(answer.stderr)}")
    return stdout


def batches(items: Sequence[int], size: int) -> Iterator[list[int]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
