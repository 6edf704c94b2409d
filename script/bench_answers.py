"""What Slurm 24.11's commands answer about a made-up cluster, written into a folder for script/bench.

Beside the answers lie the commands themselves, which replay them (bench_command.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_jobs import CARDS, BenchJob, Machine, Site, jobs

COMMANDS = ("squeue", "sacct", "scontrol", "sinfo", "sdiag")
SEPARATOR = "\x1f"  # bench_command.py puts the one asked for in its place
CLUSTER = "bench"
LOG = "asked"
_HEADER = (
    *("JOBID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "HET_JOB_ID", "HET_JOB_OFFSET", "USER", "UID", "ACCOUNT"),
    *("PARTITION", "QOS", "STATE", "NODES", "CPUS", "TRES_ALLOC", "SUBMIT_TIME", "START_TIME", "END_TIME"),
    *("REASON", "NODELIST", "NAME", "ADMIN_COMMENT"),
)
_SDIAG = "Server thread count:  1\nAgent queue size:     0\nDBD Agent queue size: 0\n"
_META = {"slurm": {"version": {"major": "24", "micro": "7", "minor": "11"}, "cluster": CLUSTER}}


def write_answers(folder: Path, site: Site) -> list[dict[str, Any]]:
    """Fill the folder; give the cluster as cc-backend's configuration describes it."""
    machine = Machine(site)
    found = list(jobs(site, machine))
    (folder / "details").mkdir(parents=True)
    rows = [_HEADER, *map(_listing_row, found)]
    text = "".join("".join(field + SEPARATOR for field in row) + "\n" for row in rows)
    (folder / "listing").write_text(text)
    ended = (job for job in found if job.state == "COMPLETED")
    (folder / "accounting").write_text("".join(SEPARATOR.join(_accounting_row(job)) + "\n" for job in ended))
    (folder / "backlog").write_text(_SDIAG)
    running = [job for job in found if job.state == "RUNNING"]
    _write_json(
        folder / "nodes", {"nodes": list(_nodes(site, machine, running)), "meta": _META, "errors": []}
    )
    for job in running:
        _write_json(folder / "details" / str(job.job_id), _detail(job, site))
    _write_commands(folder)
    return [_cluster(site, machine)]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")))


def _write_commands(folder: Path) -> None:
    """-I and -S: nothing but the interpreter itself is started, so that they cost little."""
    program = Path(__file__).with_name("bench_command.py").read_text()
    for name in COMMANDS:
        path = folder / name
        path.write_text(f"#!{sys.executable} -IS\n{program}")
        path.chmod(0o755)


def _listing_row(job: BenchJob) -> Sequence[str]:
    array, _, task = job.array.partition("_")
    return (
        *(str(job.job_id), array or str(job.job_id), task or "N/A", "N/A", "N/A"),
        *(f"user{job.user:03}", str(20_000 + job.user), job.account, job.partition, "normal"),
        *(job.state, str(job.num_nodes), _shortened(job.cpus), job.tres),
        *(str(at) if at else "N/A" for at in (job.submit, job.start, job.end)),
        *(job.reason, job.node_list if job.parts else "", job.name, "(null)"),
    )


def _shortened(count: int) -> str:
    """squeue's text writes 2,048 as 2K."""
    return f"{count // 1024}K" if count % 1024 == 0 else str(count)


def _accounting_row(job: BenchJob) -> Sequence[str]:
    return (
        *(job.array or str(job.job_id), str(job.job_id), CLUSTER),
        *(f"user{job.user:03}", str(20_000 + job.user), job.account, job.partition, "normal"),
        *(job.state, str(job.cpus), job.tres, str(job.submit), str(job.start), str(job.end)),
        *("1440", job.name, "", job.node_list),
    )


def _detail(job: BenchJob, site: Site) -> dict[str, Any]:
    """The fields that a pass reads, in 24.11's shape, and some of the many that it passes over."""
    array, _, task = job.array.partition("_")
    cards = [f"gpu:a100:{len(p.cards)}(IDX:{_span(p.cards)})" for p in job.parts if p.cards]
    numbers = {
        **{"array_job_id": int(array or 0), "het_job_id": 0, "het_job_offset": 0},
        **{"cpus": job.cpus, "node_count": job.num_nodes, "tasks": job.cpus, "priority": 1000},
        **{"submit_time": job.submit, "start_time": job.start, "end_time": job.end, "time_limit": 1440},
    }
    return {
        **{name: _number(value) for name, value in numbers.items()},
        "array_task_id": _number(int(task)) if task else _number(0, is_set=False),
        "array_task_string": "",
        "threads_per_core": _number(0, is_set=False),
        "exit_code": {"status": ["SUCCESS"], "return_code": _number(0), "signal": {"id": _number(0)}},
        **{"job_id": job.job_id, "cluster": CLUSTER, "job_state": [job.state], "restart_cnt": 0},
        **{"user_id": 20_000 + job.user, "user_name": f"user{job.user:03}", "group_name": "users"},
        **{"account": job.account, "partition": job.partition, "qos": "normal", "name": job.name},
        **{
            "nodes": job.node_list,
            "batch_host": job.parts[0].host,
            "shared": [],
            "flags": ["JOB_WAS_RUNNING"],
        },
        **{"tres_req_str": job.tres, "tres_alloc_str": job.tres, "gres_detail": cards, "admin_comment": ""},
        **{"comment": "", "dependency": "", "features": "", "licenses": "", "resv_name": ""},
        **{"command": f"/scratch/{job.account}/{job.name}/job.sh", "state_reason": job.reason},
        **{"current_working_directory": f"/scratch/{job.account}/{job.name}", "standard_output": "out.txt"},
        "job_resources": _resources(job, site),
    }


def _number(value: int, is_set: bool = True) -> dict[str, Any]:
    return {"set": is_set, "infinite": False, "number": value}


def _span(numbers: range) -> str:
    return f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])


def _resources(job: BenchJob, site: Site) -> dict[str, Any]:
    size = site.cores_per_socket
    allocation = [
        {
            "index": at,
            "name": part.host,
            "cpus": {"count": len(part.cores), "used": 0},
            "memory": {"used": 0, "allocated": len(part.cores) * 2_048},
            "sockets": [{"index": s, "cores": _cores(part.cores, s * size, size)} for s in (0, 1)],
        }
        for at, part in enumerate(job.parts)
    ]
    whole = len(job.parts[0].cores) == site.cores
    nodes = {"count": job.num_nodes, "list": job.node_list, "whole": whole, "allocation": allocation}
    return {"select_type": ["CORE"], "nodes": nodes, "cpus": job.cpus, "threads_per_core": _number(0)}


def _cores(held: range, first: int, size: int) -> list[dict[str, Any]]:
    words = (["UNALLOCATED"], ["ALLOCATED"])
    return [{"index": core, "status": words[first + core in held]} for core in range(size)]


def _nodes(site: Site, machine: Machine, running: Sequence[BenchJob]) -> Iterator[dict[str, Any]]:
    cores: dict[str, int] = {}
    cards: dict[str, int] = {}
    for part in (part for job in running for part in job.parts):
        cores[part.host] = min(site.cores, cores.get(part.host, 0) + len(part.cores))
        cards[part.host] = min(CARDS, cards.get(part.host, 0) + len(part.cards))
    for host in dict.fromkeys((*machine.plain, *machine.with_cards)):
        has_cards, used, held = host in machine.with_cards, cores.get(host, 0), cards.get(host, 0)
        state = "IDLE" if not used else "ALLOCATED" if used == site.cores else "MIXED"
        gres = f"gpu:a100:{CARDS}" if has_cards else ""
        yield {
            **{"architecture": "x86_64", "name": host, "hostname": host, "address": host, "state": [state]},
            **{"boards": 1, "sockets": 2, "cores": site.cores_per_socket, "threads": 1, "cpus": site.cores},
            **{
                "alloc_cpus": used,
                "real_memory": 256_000,
                "alloc_memory": used * 2_000,
                "cpu_load": used * 99,
            },
            **{"free_mem": _number(99_000), "boot_time": _number(site.now - 10**6), "reason": ""},
            **{"partitions": ["gpu"] if has_cards else ["normal", "all"], "features": ["milan"]},
            **{"gres": gres, "gres_used": f"gpu:a100:{held}(IDX:{_span(range(held))})" if held else ""},
            **{"operating_system": "Linux 5.14.0-503.el9.x86_64 #1 SMP", "version": "24.11.7"},
            **{"tres": f"cpu={site.cores},mem=250G,billing={site.cores}", "tres_used": f"cpu={used}"},
        }


def _cluster(site: Site, machine: Machine) -> dict[str, Any]:
    topology = {"node": list(range(site.cores)), "core": [[core] for core in range(site.cores)]}
    accelerators = [{"id": f"00000000:{at:02}:00.0", "type": "Nvidia GPU"} for at in range(1, CARDS + 1)]
    plain = {"name": "cn", "nodes": ",".join(machine.plain), "topology": topology}
    carded = {"name": "gpu", "nodes": ",".join(machine.with_cards)}
    carded["topology"] = {**topology, "accelerators": accelerators}  # type: ignore[assignment]
    return {"name": CLUSTER, "metricConfig": [], "subClusters": [plain, carded]}
