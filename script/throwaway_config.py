"""The configuration of a throw-away Slurm cluster, as text: slurm.conf and its companions.

Pure: nothing is written or started here; throwaway.py does that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

DEFAULT_PARTITIONS: Mapping[str, str] = {"all": "Nodes=ALL Default=YES MaxTime=INFINITE State=UP"}
# Kinds that divide a card: they have no device file of their own.
SHARED_GRES = frozenset({"shard", "mps"})
REQUEUE_DELAY_S = 15  # by default 120


class Gres(NamedTuple):
    name: str
    kind: str  # "": devices without a type
    number: int


@dataclass(frozen=True)
class NodeSpec:
    """Nodes that are alike. They may claim any hardware: Slurm takes their word for it."""

    names: str  # a host list: n1, n[1-3,7], gpu[01-02]
    sockets: int = 1
    cores_per_socket: int = 2
    threads_per_core: int = 1
    memory_mb: int = 4000
    gres: str = ""  # gpu:a100:4,gpu:h100:2,fpga:u280:1
    features: str = ""


@dataclass(frozen=True)
class Layout:
    """All that the configuration files need to know."""

    root: Path
    name: str
    host: str
    nodes: Sequence[NodeSpec]
    controller_port: int
    accounting_port: int | None  # None: a cluster without accounting
    node_ports: Mapping[str, int]
    partitions: Mapping[str, str] = field(default_factory=lambda: DEFAULT_PARTITIONS)
    min_job_age_s: int = 300
    bind_to_hostname: bool = False  # the host's name is a loopback address
    extra_conf: str = ""

    @property
    def munge_socket(self) -> Path:
        return self.root / "munge" / "socket"


def expand_hosts(names: str) -> list[str]:
    """`n[1-3,7],x[08-09]` → its names in order; one bracket a name, as a throw-away cluster needs it."""
    hosts: list[str] = []
    for item in re.findall(r"[^,\[\]]+(?:\[[^\]]*\][^,\[\]]*)?", names):
        head, bracket, rest = item.partition("[")
        ranges, _, tail = rest.partition("]")
        numbers = _expand_numbers(ranges) if bracket else [""]
        hosts += [f"{head}{number}{tail}" for number in numbers]
    return hosts


def _expand_numbers(ranges: str) -> list[str]:
    numbers = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers += [str(n).zfill(len(first)) for n in range(int(first), int(last or first) + 1)]
    return numbers


def parse_gres(text: str) -> list[Gres]:
    """`gpu:a100:4,shard:8` → what each entry says; an entry without a number is one device."""
    found = []
    for entry in filter(None, text.split(",")):
        name, *rest = entry.split(":")
        number = int(rest.pop()) if rest and rest[-1].isdigit() else 1
        found.append(Gres(name, ":".join(rest), number))
    return found


def device_names(nodes: Iterable[NodeSpec]) -> list[str]:
    """The device files that gres.conf names; nodes share them, since they are never opened."""
    most: dict[str, int] = {}
    for node in nodes:
        for name, number in _devices_of(node).items():
            most[name] = max(most.get(name, 0), number)
    return [f"{name}{i}" for name, number in most.items() for i in range(number)]


def _devices_of(node: NodeSpec) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for gres in parse_gres(node.gres):
        if gres.name not in SHARED_GRES:
            numbers[gres.name] = numbers.get(gres.name, 0) + gres.number
    return numbers


def render_gres_conf(layout: Layout) -> str:
    return "".join(line for node in layout.nodes for line in _gres_lines(layout.root / "dev", node))


def _gres_lines(devices: Path, node: NodeSpec) -> list[str]:
    lines = []
    used: dict[str, int] = {}
    for name, kind, number in parse_gres(node.gres):
        words = [f"NodeName={node.names}", f"Name={name}"] + ([f"Type={kind}"] if kind else [])
        if name in SHARED_GRES:
            words.append(f"Count={number}")
        else:
            # Slurm's index is the position among a node's files: two types of card count on.
            first = used.get(name, 0)
            used[name] = first + number
            last = first + number - 1
            words.append(f"File={devices}/{name}" + (f"[{first}-{last}]" if last > first else f"{first}"))
        lines.append(" ".join(words) + "\n")
    return lines


def render_slurmdbd_conf(layout: Layout) -> str:
    settings = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={layout.munge_socket}",
        "DbdHost": layout.host,
        "DbdAddr": "127.0.0.1",
        "DbdPort": layout.accounting_port,
        "SlurmUser": "root",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "localhost",
        "StorageUser": "root",
        "StorageLoc": "slurm_acct_db",
        "PidFile": f"{layout.root}/run/slurmdbd.pid",
    }
    if layout.bind_to_hostname:
        settings["CommunicationParameters"] = "NoInAddrAny"
    return _render(settings)


def render_cgroup_conf(release: tuple[int, int]) -> str:
    """No cgroups, whatever the machine has: detecting them ends slurmd in a container."""
    # Before 24.05 they cannot be switched off, but version 1 does nothing while no other plugin asks it to.
    return f"CgroupPlugin={'disabled' if release >= (24, 5) else 'cgroup/v1'}\n"


def render_slurm_conf(layout: Layout) -> str:
    settings = {**_common(layout), **_quick(layout), **_accounting(layout)}
    extra = _keys(layout.extra_conf)
    text = _render({key: value for key, value in settings.items() if key.lower() not in extra})
    nodes = [line for node in layout.nodes for line in _node_lines(layout, node)]
    partitions = [f"PartitionName={name} {options}" for name, options in layout.partitions.items()]
    return "\n".join([text, *nodes, *partitions, layout.extra_conf, ""])


def _keys(conf: str) -> set[str]:
    """What an addition sets. Slurm complains of a key that stands there twice, in every command."""
    return {line.partition("=")[0].strip().lower() for line in conf.splitlines()}


def _render(settings: Mapping[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _common(layout: Layout) -> dict[str, object]:
    root = layout.root
    settings: dict[str, object] = {
        "ClusterName": layout.name,
        "SlurmctldHost": f"{layout.host}(127.0.0.1)",
        "SlurmctldPort": layout.controller_port,
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        # cred_expire is also what a requeued job waits before it may start again.
        "AuthInfo": f"socket={layout.munge_socket},cred_expire={REQUEUE_DELAY_S}",
        "StateSaveLocation": f"{root}/state",
        "SlurmdSpoolDir": f"{root}/spool/%n",
        "SlurmctldPidFile": f"{root}/run/slurmctld.pid",
        "SlurmdPidFile": f"{root}/run/slurmd-%n.pid",
        "ProctrackType": "proctrack/pgid",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "MpiDefault": "none",
        "JobAcctGatherType": "jobacct_gather/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "DefMemPerCPU": 100,  # without it a job takes all memory of its nodes
        "SlurmdParameters": "config_overrides",
        "PropagateResourceLimits": "NONE",
        "JobRequeue": 1,
        "ReturnToService": 2,
        "MailProg": "/bin/true",
    }
    kinds = sorted({gres.name for node in layout.nodes for gres in parse_gres(node.gres)})
    if kinds:
        settings["GresTypes"] = ",".join(kinds)
    if layout.bind_to_hostname:
        settings["CommunicationParameters"] = "NoInAddrAny,NoCtldInAddrAny"
    return settings


def _quick(layout: Layout) -> dict[str, object]:
    """A cluster for tests: what a site would wait for happens at once."""
    return {
        "MinJobAge": layout.min_job_age_s,
        "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,bf_interval=1",
        "KillWait": 1,
        "OverTimeLimit": 0,
        "InactiveLimit": 0,
        "CompleteWait": 0,
        "SlurmctldTimeout": 30,
        "SlurmdTimeout": 30,
    }


def _accounting(layout: Layout) -> dict[str, object]:
    if layout.accounting_port is None:
        return {}
    tres: dict[str, None] = {}
    for node in layout.nodes:
        for gres in parse_gres(node.gres):
            tres[f"gres/{gres.name}"] = None
            if gres.kind:
                tres[f"gres/{gres.name}:{gres.kind}"] = None
    settings: dict[str, object] = {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": layout.accounting_port,
        # munge's socket again: slurmdbd's clients do not read AuthInfo.
        "AccountingStoragePass": layout.munge_socket,
        "AccountingStoreFlags": "job_comment",
    }
    if tres:
        settings["AccountingStorageTRES"] = ",".join(sorted(tres))
    return settings


def _node_lines(layout: Layout, node: NodeSpec) -> list[str]:
    # No NodeHostname: where it is one for several nodes, only a slurmd built for that accepts it.
    words = [
        "NodeAddr=127.0.0.1",
        f"Sockets={node.sockets}",
        f"CoresPerSocket={node.cores_per_socket}",
        f"ThreadsPerCore={node.threads_per_core}",
        f"RealMemory={node.memory_mb}",
        *([f"Gres={node.gres}"] if node.gres else []),
        *([f"Feature={node.features}"] if node.features else []),
        "State=UNKNOWN",
    ]
    ports = {name: layout.node_ports[name] for name in expand_hosts(node.names)}
    return [f"NodeName={name} Port={port} {' '.join(words)}" for name, port in ports.items()]
