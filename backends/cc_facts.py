"""What a cc-backend tells of its cluster (`GET /clusters/`): subclusters and their topology. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.base import Facts, TargetError
from backends.cc_client import Reply
from model import HostTopology


def facts_of_old(generation: str, saved: dict[str, Any] | None, why: str) -> Facts:
    """The last good copy; without one nothing can be placed."""
    if saved is not None:
        return Facts(generation, read_topology(saved))
    return Facts(generation, no_starts=why)


def topology_of(reply: Reply) -> dict[str, Any] | None:
    """What mapping needs of `GET /clusters/`: host list, cores, accelerators of each subcluster.

    None: the answer is none, or not cc-backend's.
    """
    if reply.status != 200:
        return None
    try:
        topology = [
            {
                "nodes": sub["nodes"],
                "cores": (sub.get("topology") or {}).get("core") or [],
                "accelerators": [a["id"] for a in (sub.get("topology") or {}).get("accelerators") or []],
            }
            for cluster in reply.document()["clusters"]
            for sub in cluster["subClusters"]
        ]
    except (KeyError, TypeError, AttributeError, TargetError):
        return None
    return {"topology": topology}


def read_topology(saved: Mapping[str, Any]) -> dict[str, HostTopology]:
    return {
        sub["nodes"]: HostTopology(tuple(tuple(core) for core in sub["cores"]), tuple(sub["accelerators"]))
        for sub in saved["topology"]
    }
