"""A snapshot's nodes in the words of cc-backend's `POST /nodestate/` (from 1.5). Pure."""

from __future__ import annotations

from typing import Any

from model import Node, Snapshot

_CANNOT_RUN = frozenset({"DOWN", "FAIL", "ERROR", "FUTURE", "UNKNOWN"})


def render(snapshot: Snapshot, cluster: str) -> dict[str, Any]:
    return {
        "cluster": cluster,
        "nodes": [
            {
                "hostname": node.name,
                "states": states(node),
                "cpusAllocated": node.alloc_cpus,
                "memoryAllocated": node.alloc_memory_mb,
                "gpusAllocated": sum(gpu.allocated for gpu in node.gpus),
                "jobsRunning": snapshot.jobs_on.get(node.name, 0),
            }
            for node in snapshot.nodes or ()
        ],
    }


def states(node: Node) -> list[str]:
    """Slurm's words one by one: of several the best known counts there, and `allocated` beats `down`.

    So a node that cannot run jobs is `down` alone; an idle one that is powered down is idle.
    """
    if _CANNOT_RUN & set(node.states):
        return ["down"]
    if "POWERED_DOWN" in node.states:
        return ["idle"]
    return [word.lower() for word in node.states]
