"""Running jobs whole, from `squeue --json` → Run records with cores and devices. Parses only.

Three shapes of `job_resources` are told apart by what stands there: 21.08 (by position, cores of
different sockets fall together), 22.05 to 23.11 (allocated cores only), 24.05 on (every core with its
status).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from model import ACTIVE, Allocation, Device, Node, Run, RunKey
from slurm import cpu_ids, document, hostlist, wire
from slurm.gres import devices

log = logging.getLogger(__name__)

Cores = Mapping[str, tuple[int, ...]]  # host → node-wide core numbers


class Detail(msgspec.Struct):
    """The fields that make a Run; all else is skipped while decoding."""

    job_id: Any = None
    cluster: Any = None
    job_state: Any = None
    start_time: Any = None
    submit_time: Any = None
    array_job_id: Any = None
    array_task_id: Any = None
    het_job_id: Any = None
    het_job_offset: Any = None
    user_name: Any = None
    user_id: Any = None
    account: Any = None
    partition: Any = None
    qos: Any = None
    name: Any = None
    nodes: Any = None
    node_count: Any = None
    cpus: Any = None
    time_limit: Any = None
    tres_alloc_str: Any = None
    gres_detail: Any = None
    job_resources: Any = None
    shared: Any = None
    exclusive: Any = None
    restart_cnt: Any = None
    features: Any = None
    licenses: Any = None
    resv_name: Any = None
    dependency: Any = None
    command: Any = None
    current_working_directory: Any = None
    comment: Any = None


def parse_details(
    answer: bytes, cluster: str, asked: Collection[int], nodes: Mapping[str, Node]
) -> tuple[Run, ...]:
    """The active runs among the ids asked. Raise AnswerError unless the answer is whole.

    Filtered here too: up to 23.11 `squeue --json` ignores its filters. `nodes` tells the geometry that
    the JSON of those releases leaves out.
    """
    whole = document.decode(answer, "squeue")
    found = document.records(whole.jobs, Detail, "squeue")
    own = wire.own_cluster(document.head_cluster(whole.meta), {wire.name(d.cluster) for d in found}, cluster)
    runs: list[Run] = []
    for detail in found:
        if detail.cluster in (None, "", own) and is_active(detail):
            told = document.unless_malformed(
                "squeue", detail.job_id, _if_asked, asked, detail, cluster, nodes
            )
            runs += [run for run in told if run is not None]
    return tuple(runs)


def _if_asked(asked: Collection[int], detail: Detail, cluster: str, nodes: Mapping[str, Node]) -> Run | None:
    return run_of(detail, cluster, nodes) if wire.job_id(detail.job_id) in asked else None


def is_active(detail: Detail) -> bool:
    return wire.state_word(detail.job_state) in ACTIVE


def run_of(detail: Detail, cluster: str, nodes: Mapping[str, Node]) -> Run:
    """Raise ShapeError or HostlistError where the record cannot be a running job's."""
    node_list = wire.text(detail.nodes)
    hosts = hostlist.expand(node_list)
    start = wire.number(detail.start_time)
    if not start or not hosts:
        raise wire.ShapeError("a running job without start or nodes")
    tres = wire.tres(wire.text(detail.tres_alloc_str))
    limit_min = wire.number(detail.time_limit)
    array_id = wire.number(detail.array_job_id) or None
    het_id = wire.number(detail.het_job_id) or None
    return Run(
        key=RunKey(cluster, wire.job_id(detail.job_id), start),
        user=wire.user_name(wire.text(detail.user_name), detail.user_id),
        account=wire.text(detail.account),
        partition=wire.text(detail.partition),
        state=wire.state_word(detail.job_state),
        allocations=_allocations(detail, hosts, nodes),
        cpus=wire.number(detail.cpus) or 0,
        gpus=wire.gpus_in_tres(tres),
        node_list=node_list,
        qos=wire.text(detail.qos),
        name=wire.name(detail.name),
        submit_time=wire.number(detail.submit_time) or 0,
        time_limit_s=limit_min * 60 if limit_min else None,
        memory_mb=wire.memory_mb(tres.get("mem", "")),
        sharing=sharing(detail, any(nodes[host].owner for host in hosts if host in nodes)),
        array_job_id=array_id,
        array_task_id=wire.number(detail.array_task_id) if array_id else None,
        het_job_id=het_id,
        het_offset=wire.number(detail.het_job_offset) if het_id else None,
        info=_info(detail),
    )


def sharing(detail: Detail, owned: bool = False) -> str:
    """Who else may be on its nodes, in cc-backend 1.5's words.

    `shared` says "none" for --exclusive and "user" for --exclusive=user up to 25.11; 23.02 has
    `exclusive` beside it; from 24.05 `whole` tells; 26.05 has nothing else: there a node that is
    `owned` tells --exclusive=user, which is `whole` too.
    """
    told = {*wire.words(detail.shared), *wire.words(detail.exclusive)}
    if told & {"USER", "MCS"}:
        return "single_user"
    if told & {"NONE", "TRUE", "NODE", "EXCLUSIVE"}:
        return "none"
    resources = detail.job_resources if isinstance(detail.job_resources, dict) else {}
    nodes = resources.get("nodes")
    if not (isinstance(nodes, dict) and nodes.get("whole") is True):
        return "multi_user"
    return "single_user" if owned else "none"


def _allocations(detail: Detail, hosts: tuple[str, ...], nodes: Mapping[str, Node]) -> tuple[Allocation, ...]:
    name = f"{detail.job_id} (job_resources)"  # the run is known without; CPU_IDs may tell its cores
    told = document.unless_malformed("squeue", name, read_cores, detail.job_resources, nodes)
    cores, cpus = told[0] if told else ({}, {})
    held = _devices_by_host(detail.gres_detail, cpu_ids.in_table_order(hosts, nodes))
    return tuple(Allocation(h, cpus.get(h), cores.get(h), held.get(h, ())) for h in hosts)


def _devices_by_host(gres_detail: Any, hosts: tuple[str, ...]) -> dict[str, tuple[Device, ...]]:
    """A text a node, in the order of Slurm's node table; where the numbers differ, none can be placed."""
    texts = gres_detail if isinstance(gres_detail, list) else []
    if len(texts) != len(hosts) or not all(isinstance(text, str) for text in texts):
        return {}
    return {host: devices(text) for host, text in zip(hosts, texts, strict=True)}


def read_cores(
    resources: Any, nodes: Mapping[str, Node]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Node-wide core numbers and CPUs by host, as far as the JSON tells them."""
    if not isinstance(resources, dict):
        return {}, {}
    if isinstance(resources.get("allocated_nodes"), list):
        return _cores_allocated_only(resources["allocated_nodes"], nodes), {}
    if isinstance(resources.get("nodes"), dict):
        return _cores_with_status(resources["nodes"].get("allocation") or [], nodes)
    return {}, {}


def _cores_allocated_only(entries: list[Any], nodes: Mapping[str, Node]) -> dict[str, tuple[int, ...]]:
    """22.05 to 23.11: `{nodename, sockets: {"1": {cores: {"3": "allocated"}}}}`."""
    found: dict[str, tuple[int, ...]] = {}
    names = tuple(entry["nodename"] for entry in entries)
    for host, entry in zip(cpu_ids.in_table_order(names, nodes), entries, strict=True):
        if host not in nodes:
            continue  # without the node's geometry the number of a core on its second socket is unknown
        places = ((at, core) for at, socket in entry["sockets"].items() for core in socket["cores"])
        found[host] = _node_wide(places, nodes[host].sockets, nodes[host].cores_per_socket)
    return found


def _node_wide(places: Iterable[tuple[Any, Any]], sockets: int, per_socket: int) -> tuple[int, ...]:
    """Raise ShapeError for a core that its socket lacks: its number would be another socket's core."""
    found: set[int] = set()
    for place in places:
        socket, core = (wire.number(part) for part in place)
        if socket is None or core is None or socket >= sockets or core >= per_socket:
            raise wire.ShapeError(f"no core {place[1]} on socket {place[0]}")
        found.add(socket * per_socket + core)
    return tuple(sorted(found))


def _cores_with_status(
    entries: list[Any], nodes: Mapping[str, Node]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """24.05 on: `{name, cpus: {count}, sockets: [{index, cores: [{index, status: ["ALLOCATED"]}]}]}`."""
    cores: dict[str, tuple[int, ...]] = {}
    cpus: dict[str, int] = {}
    names = tuple(entry["name"] for entry in entries)
    for host, entry in zip(cpu_ids.in_table_order(names, nodes), entries, strict=True):
        sockets = entry["sockets"]
        size = len(sockets), max((len(s["cores"]) for s in sockets), default=0)
        if host in nodes:
            size = nodes[host].sockets, nodes[host].cores_per_socket
        held = ((s, c) for s in sockets for c in s["cores"] if "ALLOCATED" in wire.words(c["status"]))
        cores[host] = _node_wide(((s["index"], c["index"]) for s, c in held), *size)
        count = wire.number((entry.get("cpus") or {}).get("count"))
        if count:
            cpus[host] = count
    return cores, cpus


def _info(detail: Detail) -> str:
    """What a person looks up about a job; not how it was submitted: command lines hold tokens."""
    return wire.info_lines(
        (
            ("JobId", wire.number(detail.job_id)),
            ("JobName", wire.name(detail.name)),
            ("ArrayJobId", wire.number(detail.array_job_id) or None),
            ("ArrayTaskId", wire.number(detail.array_task_id) if wire.number(detail.array_job_id) else None),
            ("HetJobId", wire.number(detail.het_job_id) or None),
            ("HetJobOffset", wire.number(detail.het_job_offset) if wire.number(detail.het_job_id) else None),
            ("UserId", f"{wire.text(detail.user_name)}({wire.number(detail.user_id)})"),
            ("Account", wire.text(detail.account)),
            ("QOS", wire.text(detail.qos)),
            ("Partition", wire.text(detail.partition)),
            ("Restarts", wire.number(detail.restart_cnt)),
            ("SubmitTime", wire.number(detail.submit_time)),
            ("StartTime", wire.number(detail.start_time)),
            ("TimeLimitMinutes", wire.number(detail.time_limit) or "UNLIMITED"),
            ("NodeList", wire.text(detail.nodes)),
            ("NumNodes", wire.number(detail.node_count)),
            ("NumCPUs", wire.number(detail.cpus)),
            ("TRES", wire.text(detail.tres_alloc_str)),
            ("Features", wire.text(detail.features)),
            ("Licenses", wire.text(detail.licenses)),
            ("Reservation", wire.text(detail.resv_name)),
            ("Dependency", wire.text(detail.dependency)),
            ("Command", wire.text(detail.command).partition(" ")[0]),  # the rest are its arguments
            ("WorkDir", wire.text(detail.current_working_directory)),
            ("Comment", wire.text(detail.comment)),
        )
    )
