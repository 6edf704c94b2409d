"""Real parts for the live tests: a throw-away Slurm, and what `scontrol show job -d` says of its jobs.

The reading of scontrol here is independent of slurm/: it is what the project's own reading is held
against.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import packages
import pytest
from throwaway import Cluster, NodeSpec

NODES = (
    NodeSpec("n[1-3]", sockets=2, cores_per_socket=4, threads_per_core=2, memory_mb=8000),
    NodeSpec("g[1-2]", sockets=2, cores_per_socket=4, threads_per_core=1, memory_mb=8000, gres="gpu:a100:4"),
)
GPU_IDS = ["00000000:01:00.0", "00000000:11:00.0", "00000000:21:00.0", "00000000:31:00.0"]
KIND = {"n": (2, 4, 2), "g": (2, 4, 1)}  # sockets, cores, threads by the first letter of a name


class Truth(NamedTuple):
    """A run as scontrol shows it, in the numbering of the targets."""

    job_id: int
    start: int
    user: str
    state: str
    hwthreads: dict[str, tuple[int, ...]]  # by host
    accelerators: dict[str, tuple[str, ...]]


def why_not() -> str | None:
    """Why no live Slurm can be had here; None: it can."""
    if os.geteuid() != 0:
        return "a throw-away Slurm needs root"
    in_use = packages.slurm_in_use()
    if in_use:
        return f"a Slurm is in use here: {in_use}"
    missing = packages.missing()
    return f"missing: {', '.join(missing)} (script/test installs them)" if missing else None


def require() -> None:
    """In CI a skip is a failure."""
    reason = why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def start_cluster(folder: Path, **options: Any) -> Cluster:
    return Cluster(folder, name="noctua", nodes=options.pop("nodes", NODES), **options)


def read_truth(cluster: Cluster) -> dict[tuple[int, int], Truth]:
    """All jobs that hold nodes now or did so lately, by id and start."""
    text = cluster.run(["env", "SLURM_TIME_FORMAT=%s", "scontrol", "-a", "show", "job", "-d"], "root")
    found = (_truth_of(block) for block in re.split(r"\n\n(?=JobId=)", text) if "JobId=" in block)
    return {(t.job_id, t.start): t for t in found if t is not None}


def _truth_of(block: str) -> Truth | None:
    start, nodes = _value(block, "StartTime"), _value(block, "NodeList")
    if not start.isdigit() or nodes in ("", "(null)"):
        return None
    threads: dict[str, tuple[int, ...]] = {}
    cards: dict[str, tuple[str, ...]] = {}
    for names, cpus, gres in re.findall(r"^     Nodes=(\S+) CPU_IDs=(\S+) Mem=\d+ GRES=(\S*)", block, re.M):
        for host in _hosts(names):
            threads[host] = _threads(host, numbers(cpus))
            index = re.search(r"\(IDX:([\d,-]+)\)", gres)
            cards[host] = tuple(GPU_IDS[i] for i in numbers(index[1])) if index else ()
    user = _value(block, "UserId").partition("(")[0]
    return Truth(int(_value(block, "JobId")), int(start), user, _value(block, "JobState"), threads, cards)


def _value(block: str, key: str) -> str:
    found = re.search(rf"(?:^|\s){key}=(\S*)", block)
    return found[1] if found else ""


def _hosts(names: str) -> list[str]:
    return [
        head + str(number) if numbers else head
        for head, numbers in re.findall(r"([a-z]+\d*)(?:\[([\d,-]+)\])?", names)
        for number in (numbers(numbers) if numbers else [0])
    ]


def numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _threads(host: str, cpus: list[int]) -> tuple[int, ...]:
    """All threads of the cores that the CPUs belong to, numbered as Linux does it."""
    sockets, cores, threads = KIND[host[0]]
    held = sorted({cpu // threads for cpu in cpus})
    return tuple(sorted(core + sockets * cores * t for core in held for t in range(threads)))


def read_endings(cluster: Cluster) -> dict[tuple[int, int], tuple[str, int]]:
    """(state, end) of each run that accounting knows to have ended, by id and start.

    22.05 loses the start of a run that is requeued moments after it began: it stands under start 0.
    """
    command = ["env", "SLURM_TIME_FORMAT=%s", "sacct", "-a", "-X", "-D", "-n", "-P"]
    text = cluster.run([*command, "-S", "now-1hour", "-o", "JobIDRaw,Start,End,State"], "root")
    rows = (line.split("|") for line in text.splitlines())
    return {
        (int(job), int(start) if start.isdigit() else 0): (state.split(" ")[0], int(end))
        for job, start, end, state in rows
        if end.isdigit()
    }


def cc_cluster() -> dict[str, Any]:
    """The same nodes as cc-backend's cluster.json describes them."""
    return {
        "name": "noctua",
        "metricConfig": [],
        "subClusters": [
            {"name": "cn", "nodes": "n[1-3]", "topology": _topology(2, 4, 2)},
            {"name": "gpu", "nodes": "g[1-2]", "topology": {**_topology(2, 4, 1), **_cards()}},
        ],
    }


def _topology(sockets: int, cores: int, threads: int) -> dict[str, Any]:
    total = sockets * cores
    return {
        "node": list(range(total * threads)),
        "core": [[core + total * t for t in range(threads)] for core in range(total)],
    }


def _cards() -> dict[str, Any]:
    return {"accelerators": [{"id": i, "type": "Nvidia GPU", "model": "A100"} for i in GPU_IDS]}


def write_config(folder: Path, cluster: Cluster, **sections: Any) -> Path:
    path = folder / "config.json"
    document = {
        "clustername": "noctua",
        "state_dir": str(folder / "state"),
        "slurm": {**cluster.commands, "state_save_location": str(cluster.state_save)},
        "accelerators": {"g": GPU_IDS},
        **sections,
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path
