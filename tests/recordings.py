"""Where the recordings of real clusters lie, and what they held: for the tests of all readers.

Four releases, two moments each (`t0`, and `t1` a minute or two later), and what the commands answered
without slurmctld and without slurmdbd (`refusals`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ClusterShell.NodeSet import NodeSet

from model import Allocation, Device, Node
from slurm import nodes

DATA = Path(__file__).parent / "data"
CLUSTER = "noctua"
RELEASES = ("21.08", "22.05", "24.11", "25.11")
MOMENTS = ("t0", "t1")


class Recorded(NamedTuple):
    """A moment of a release."""

    release: str
    moment: str

    def __str__(self) -> str:
        return f"{self.release}-{self.moment}"

    @property
    def folder(self) -> Path:
        return DATA / f"slurm-{self.release}" / self.moment

    @property
    def nodes_file(self) -> str:
        """The file that holds nodes one by one: up to 22.05 scontrol has no JSON, later sinfo has groups."""
        return "sinfo.json" if self.release in ("21.08", "22.05") else "scontrol_node.json"

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def nodes(self) -> dict[str, Node]:
        return {n.name: n for n in nodes.parse_nodes(self.read(self.nodes_file), self.nodes_file)}

    @property
    def now(self) -> int:
        return int(self.read("epoch.txt"))


ALL = tuple(Recorded(release, moment) for release in RELEASES for moment in MOMENTS)


def refusal(release: str, without: str, command: str) -> tuple[bytes, str, int]:
    """What `command` answered without `slurmctld` or `slurmdbd`: stdout, stderr, exit code."""
    folder = DATA / f"slurm-{release}" / "refusals" / f"no_{without}"
    stdout, stderr, code = (folder / f"{command}.{part}" for part in ("stdout", "stderr", "rc"))
    return stdout.read_bytes(), stderr.read_text("utf-8"), int(code.read_text("ascii"))


def plain(value: Any) -> Any:
    """A JSON value of any release as a plain one; a test's own reading, independent of slurm/wire.py."""
    if isinstance(value, dict) and "set" in value:
        return value["number"] if value["set"] and not value["infinite"] else None
    return value


def _numbers(spans: str) -> tuple[int, ...]:
    """`0-1,16` → 0, 1, 16; the test's own reading."""
    found: list[int] = []
    for span in spans.split(","):
        first, _, last = span.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _told_devices(gres: str) -> tuple[Device, ...]:
    entries = re.findall(r"(\w+)(?::([^:(]+))?:(\d+)\(IDX:([0-9,-]+)\)", gres)
    return tuple(Device(name, kind, int(count), _numbers(spans)) for name, kind, count, spans in entries)


def told_by_scontrol(recorded: Recorded) -> dict[int, list[Allocation]]:
    """What each active job holds by host, from `scontrol show job -d`; CPU_IDs // threads is the core."""
    nodes = recorded.nodes()
    found: dict[int, list[Allocation]] = {}
    for block in re.split(r"^(?=JobId=)", recorded.read("scontrol_job_d.txt").decode(), flags=re.M)[1:]:
        if not re.search(r"^   JobState=(RUNNING|SUSPENDED) ", block, re.M):
            continue
        held = found.setdefault(int(block[6:].split()[0]), [])
        for hosts, spans, gres in re.findall(
            r"^     Nodes=(\S+) CPU_IDs=(\S+) Mem=\d+ GRES=(.*)$", block, re.M
        ):
            for host in map(str, NodeSet(hosts)):
                cpus, threads = _numbers(spans), nodes[host].threads_per_core
                cores = sorted({cpu // threads for cpu in cpus})
                held.append(Allocation(host, len(cpus), tuple(cores), _told_devices(gres)))
    return found


LISTING_HEADER = (
    *("JOBID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "HET_JOB_ID", "HET_JOB_OFFSET", "USER", "UID", "ACCOUNT"),
    *("PARTITION", "QOS", "STATE", "NODES", "CPUS", "TRES_ALLOC", "SUBMIT_TIME", "START_TIME", "END_TIME"),
    *("REASON", "NODELIST", "NAME", "ADMIN_COMMENT"),
)


def listing_text(jobs: list[Any], separator: str) -> bytes:
    """What `squeue -O` prints of these jobs of `squeue --json`: each field is followed by the separator."""
    rows = [LISTING_HEADER, *(_listing_row(job, jobs) for job in jobs if not _stands_in_its_array(job, jobs))]
    return "".join("".join(field + separator for field in row) + "\n" for row in rows).encode()


def _stands_in_its_array(job: Any, jobs: list[Any]) -> bool:
    """A requeued task is shown within the waiting entry of its array, if there is one."""
    waits = "PENDING" in job["job_state"] and not job["array_task_string"] and plain(job["array_job_id"])
    return bool(waits) and any(j["array_task_string"] and _same_array(j, job) for j in jobs)


def _same_array(one: Any, other: Any) -> bool:
    return bool(plain(one["array_job_id"]) == plain(other["array_job_id"]))


def _waiting_tasks(job: Any, jobs: list[Any]) -> str:
    text, _, _ = str(job["array_task_string"]).partition("%")
    requeued = [j for j in jobs if j is not job and _same_array(j, job) and _stands_in_its_array(j, jobs)]
    if not requeued:
        return str(job["array_task_string"])
    first, last = (
        min(plain(j["array_task_id"]) for j in requeued),
        max(plain(j["array_task_id"]) for j in requeued),
    )
    return f"{first}-{last},{text}"  # as it is in the recordings: two runs of numbers, apart


def _listing_row(job: Any, jobs: list[Any]) -> tuple[str, ...]:
    array, het = plain(job["array_job_id"]), plain(job["het_job_id"])
    task = _waiting_tasks(job, jobs) if job["array_task_string"] else str(plain(job["array_task_id"]))
    states = [job["job_state"]] if isinstance(job["job_state"], str) else job["job_state"]
    times = (plain(job[f"{name}_time"]) for name in ("submit", "start", "end"))
    return (
        str(job["job_id"]),
        str(array or job["job_id"]),
        task if array else "N/A",
        str(het) if het else "N/A",
        str(plain(job["het_job_offset"])) if het else "N/A",
        *(str(job[name]) for name in ("user_name", "user_id", "account", "partition", "qos")),
        "COMPLETING" if "COMPLETING" in states else states[0],
        *(shortened(plain(job[name])) for name in ("node_count", "cpus")),
        job["tres_alloc_str"] or job["tres_req_str"],
        *(str(time) if time else "N/A" for time in times),
        job["state_reason"],
        job["nodes"] or "",
        job["name"],
        job["admin_comment"] or "(null)",
    )


def shortened(count: int) -> str:
    """squeue's text writes 2,048 as 2K."""
    return f"{count // 1024}K" if count and count % 1024 == 0 else str(count)


# Values that no release gives; a reader may refuse them, but must not fall over them or invent ids.
ABSURD: tuple[Any, ...] = (
    *(None, {}, [], "", "nonsense", -1, 2**70, 1.5, True, [None], [[]], [{}], {"x": {}}),
    *({"set": True}, {"set": True, "infinite": False, "number": []}),
)


def accounting_text(jobs: list[Any], separator: str) -> bytes:
    """What `sacct -n -P` prints of these jobs of `sacct --json`: no separator follows the last field."""
    return "".join(separator.join(_accounting_row(job)) + "\n" for job in jobs).encode()


def _accounting_row(job: Any) -> tuple[str, ...]:
    array, task, het = job["array"]["job_id"], plain(job["array"]["task_id"]), job["het"]["job_id"]
    shown = (
        f"{array}_{task}" if array else f"{het}+{plain(job['het']['job_offset'])}" if het else job["job_id"]
    )
    states = job["state"]["current"]
    state = states if isinstance(states, str) else states[-1]
    counts = [(t["type"], t["name"], t["count"]) for t in job["tres"]["allocated"]]
    parts = [(f"{kind}/{name}" if name else kind, n) for kind, name, n in counts if n not in (None, -2)]
    tres = {kind: f"{n}M" if kind == "mem" else str(n) for kind, n in parts}
    limit = plain(job["time"]["limit"])
    return (
        *(str(shown), str(job["job_id"]), job["cluster"], job["user"], "2001", job["account"] or ""),
        *(job["partition"], job["qos"], f"{state} by 2001" if state == "CANCELLED" else state),
        *(tres.get("cpu", "0"), ",".join(f"{kind}={n}" for kind, n in tres.items())),
        *(str(job["time"][name] or "Unknown") for name in ("submission", "start", "end")),
        *("UNLIMITED" if limit is None else str(limit), job["name"], job["comment"]["administrator"] or ""),
        job["nodes"],
    )
