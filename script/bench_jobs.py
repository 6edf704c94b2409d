"""A made-up cluster under load, for script/bench: which jobs run where, which wait, which have ended. Pure.

The same numbers give the same cluster. What Slurm's commands answer about it is bench_answers'.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle
from typing import NamedTuple

CARDS = 4  # GPUs a GPU node has
GPU_SHARE = 16  # one node in so many has them
# kind → how many of a hundred running jobs
MIX = {"part": 75, "whole": 14, "several": 6, "gpu": 5}
SEVERAL = (2, 2, 2, 2, 4, 4, 4, 8, 8, 16)  # nodes of a job
WORDS = (
    *("vasp", "gromacs_md", "relax", "train-resnet", "cp2k", "openfoam", "interactive", "snakejob.bwa"),
    *("namd", "run_all.sh", "eval", "größe-test", "bash", "lammps-npt", "wrf", "preprocess"),
)
REASONS = ("Priority",) * 7 + ("Resources", "QOSMaxCpuPerUserLimit", "Dependency", "AssocGrpCpuLimit")


class Site(NamedTuple):
    """How large the cluster is, and what its jobs are called."""

    running: int
    pending: int
    ended: int  # within the last minutes
    nodes: int
    now: int
    first_id: int = 4_000_000
    cores_per_socket: int = 64
    hosts: tuple[str, ...] = ()  # instead of names of its own

    @property
    def cores(self) -> int:
        return 2 * self.cores_per_socket


class Part(NamedTuple):
    """What a job holds on a node: cores by their node-wide numbers, GPUs by index."""

    host: str
    cores: range
    cards: range = range(0)


class BenchJob(NamedTuple):
    job_id: int
    array: str  # its array's id and its task, `12_3`, or waiting tasks, `12_0-99%5`; "": no array
    user: int  # the number in its name
    account: str
    partition: str
    state: str
    num_nodes: int
    cpus: int
    submit: int
    start: int  # 0: none
    end: int  # 0: none
    reason: str
    name: str
    parts: tuple[Part, ...] = ()

    @property
    def cards(self) -> int:
        return sum(len(part.cards) for part in self.parts)

    @property
    def node_list(self) -> str:
        """As Slurm writes it, numbers in ranges."""
        hosts = [part.host for part in self.parts]
        return hosts[0] if len(hosts) == 1 else compress(hosts)

    @property
    def tres(self) -> str:
        cards = f",gres/gpu={self.cards},gres/gpu:a100={self.cards}" if self.cards else ""
        return f"cpu={self.cpus},mem={self.cpus * 2}G,node={self.num_nodes},billing={self.cpus}{cards}"


class Machine:
    """The nodes, handed out in turn; from the first again when all are taken."""

    def __init__(self, site: Site) -> None:
        self.cores = site.cores
        gpu_nodes = max(1, site.nodes // GPU_SHARE)
        names = site.hosts or tuple(f"n2cn{n:04}" for n in range(1, site.nodes - gpu_nodes + 1))
        self.plain = names
        self.with_cards = site.hosts or tuple(f"n2gpu{n:03}" for n in range(1, gpu_nodes + 1))
        self._plain, self._with_cards = cycle(self.plain), cycle(self.with_cards)
        self._shared, self._used = next(self._plain), 0
        self._carded, self._cards = next(self._with_cards), 0

    def take_part(self, count: int) -> tuple[Part, ...]:
        if self._used + count > self.cores:
            self._shared, self._used = next(self._plain), 0
        self._used += count
        return (Part(self._shared, range(self._used - count, self._used)),)

    def take_whole(self, count: int) -> tuple[Part, ...]:
        hosts = dict.fromkeys(next(self._plain) for _ in range(count))
        return tuple(Part(host, range(self.cores)) for host in hosts)

    def take_cards(self, count: int) -> tuple[Part, ...]:
        if self._cards + count > CARDS:
            self._carded, self._cards = next(self._with_cards), 0
        first, self._cards = self._cards, self._cards + count
        share = self.cores // CARDS
        return (Part(self._carded, range(first * share, self._cards * share), range(first, self._cards)),)


def compress(hosts: list[str]) -> str:
    """`n1 n2 n3` → `n[1-3]`; names without a number at their end, or of several kinds, one by one."""
    stem = hosts[0].rstrip("0123456789")
    digits = [host.removeprefix(stem) for host in hosts]
    if not all(digit.isdecimal() and host == stem + digit for host, digit in zip(hosts, digits, strict=True)):
        return ",".join(hosts)
    spans: list[list[str]] = []
    for digit in digits:
        if spans and int(digit) == int(spans[-1][1]) + 1:
            spans[-1][1] = digit
        else:
            spans.append([digit, digit])
    return f"{stem}[{','.join(a if a == b else f'{a}-{b}' for a, b in spans)}]"


def jobs(site: Site, machine: Machine) -> Iterator[BenchJob]:
    """Running ones, then those that have just ended, then waiting ones; ids count up."""
    chance = random.Random(4711)
    for at in range(site.running):
        start = site.now - chance.randrange(60, 86_400)
        yield _placed(chance, site, machine, site.first_id + at, (start, 0))
    for at in range(site.ended):
        end = site.now - chance.randrange(5, 240)
        span = (end - chance.randrange(30, 7_200), end)
        yield _placed(chance, site, machine, site.first_id + site.running + at, span)
    for at in range(site.pending):
        yield _waiting(chance, site, site.first_id + site.running + site.ended + at)


def _placed(
    chance: random.Random, site: Site, machine: Machine, job_id: int, span: tuple[int, int]
) -> BenchJob:
    kind = chance.choices(tuple(MIX), tuple(MIX.values()))[0]
    if kind == "part":
        parts = machine.take_part(min(chance.choice((1, 1, 2, 4, 8, 16, 32)), machine.cores))
    elif kind == "gpu":
        parts = machine.take_cards(chance.choice((1, 1, 2, 4)))
    else:
        parts = machine.take_whole(chance.choice(SEVERAL) if kind == "several" else 1)
    start, end = span
    user = chance.randrange(180)
    return BenchJob(
        job_id=job_id,
        array=f"{job_id - job_id % 50}_{job_id % 50}" if kind == "part" and user % 4 == 0 else "",
        user=user,
        account=f"hpc-prf-{user % 45:03}",
        partition="gpu" if kind == "gpu" else "normal",
        state="COMPLETED" if end else "RUNNING",
        num_nodes=len(parts),
        cpus=sum(len(part.cores) for part in parts),
        submit=start - chance.randrange(1, 200_000),
        start=start,
        end=end or start + 86_400,
        reason="None",
        name=f"{chance.choice(WORDS)}_{chance.randrange(1000)}",
        parts=parts,
    )


def _waiting(chance: random.Random, site: Site, job_id: int) -> BenchJob:
    user, nodes = chance.randrange(180), chance.choice((1, 1, 1, 1, 2, 4, 8, 16))
    tasks = f"{job_id}_{chance.randrange(9)}-{chance.randrange(10, 500)}%{chance.randrange(1, 40)}"
    expected = site.now + chance.randrange(600, 200_000) if chance.random() < 0.1 else 0
    return BenchJob(
        job_id=job_id,
        array=tasks if chance.random() < 0.15 else "",
        user=user,
        account=f"hpc-prf-{user % 45:03}",
        partition=chance.choice(("normal", "normal", "normal", "gpu", "normal,largemem")),
        state="PENDING",
        num_nodes=nodes,
        cpus=nodes * chance.choice((1, 16, site.cores)),
        submit=site.now - chance.randrange(1, 600_000),
        start=expected,
        end=expected and expected + 86_400,
        reason=chance.choice(REASONS),
        name=f"{chance.choice(WORDS)}_{chance.randrange(1000)}",
    )
