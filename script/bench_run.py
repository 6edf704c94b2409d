"""script/bench: what a pass with nothing new takes, starting up, and a cold start against a bare loop.

All that is compared is measured in one run, in turn, and given as medians.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import bench_cold
import bench_passes
from bench_jobs import Site
from bench_passes import STARTS_A_PASS

from slurm.hostlist import expand


def main() -> int:
    args = _parse()
    logging.basicConfig(level=logging.INFO, filename=os.devnull)  # written as for cron, and read by nobody
    site = Site(args.running, args.pending, ended=100, nodes=args.nodes, now=int(time.time()))
    found: dict[str, Any] = {"date": date.today().isoformat(), "machine": _machine(), **vars(args)}
    with tempfile.TemporaryDirectory(prefix="slurm-sync-bench-") as name:
        if args.cc_url is None:
            found["warm"] = bench_passes.measure(Path(name), site, args.repeat)
        found["cold"] = bench_cold.measure(_fresh(Path(name), site, args), args.repeat)
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False, default=str))
    else:
        print("\n".join(_lines(found)))
    return 0 if all(met for met, _ in _goals(found)) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--running", type=int, default=2_000, metavar="N", help="running jobs (2000)")
    add("--pending", type=int, default=20_000, metavar="N", help="waiting jobs and arrays (20000)")
    add("--nodes", type=int, default=1_000, metavar="N", help="nodes (1000)")
    add("--repeat", type=int, default=7, metavar="N", help="repetitions (7)")
    add("--json", action="store_true", help="the figures as one JSON object")
    real = parser.add_argument_group("the cold start alone, into a cc-backend of yours, where the jobs stay")
    real.add_argument("--cc-url", metavar="URL")
    real.add_argument("--cc-token-file", type=Path, metavar="FILE")
    real.add_argument("--cc-cluster", metavar="NAME", help="a cluster that it knows")
    real.add_argument("--cc-nodes", metavar="HOSTLIST", help="nodes of that cluster")
    real.add_argument("--cc-cores", type=int, default=64, metavar="N", help="cores of a socket (64)")
    args = parser.parse_args()
    given = [args.cc_url, args.cc_token_file, args.cc_cluster, args.cc_nodes]
    if any(given) and not all(given):
        parser.error("--cc-url, --cc-token-file, --cc-cluster and --cc-nodes go together")
    return args


def _machine() -> str:
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}"


def _fresh(folder: Path, site: Site, args: argparse.Namespace) -> bench_cold.Fresh:
    site = site._replace(running=min(site.running, STARTS_A_PASS), pending=0, ended=0)
    if args.cc_url is None:
        return bench_cold.on_doubles(folder, site)
    site = site._replace(hosts=expand(args.cc_nodes), cores_per_socket=args.cc_cores)
    token = args.cc_token_file.read_text().strip()
    return bench_cold.on_real(folder, site, args.cc_cluster, args.cc_url, token)


def _goals(found: dict[str, Any]) -> list[tuple[bool, str]]:
    return [goal for part in ("warm", "cold") for goal in found.get(part, {}).get("goals", ())]


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['date']}, {found['machine']}; medians of {found['repeat']} repetitions"
    if "warm" in found:
        jobs = f"{found['running']} running and {found['pending']} waiting jobs, {found['nodes']} nodes"
        yield f"\nA pass with nothing new: {jobs}\n"
        yield from _warm_lines(found["warm"])
    started = min(found["running"], STARTS_A_PASS)
    yield f"\nA cold start of {started} jobs into cc-backend: its applying step\n"
    yield f"{'':28}{'jobs a second':>15}{'the pass to it':>16}"
    for name, rate in found["cold"]["jobs_s"].items():
        yield f"{name:28}{rate:>15.0f}{found['cold']['ratios'][name]:>16.2f}"
    yield ""
    for met, text in _goals(found):
        yield f"{'met   ' if met else 'MISSED'}  {text}"


def _warm_lines(warm: dict[str, Any]) -> Iterator[str]:
    yield f"{'targets':28}{'wall':>9}{'commands':>10}{'beyond':>9}{'own CPU':>9}{'peak':>9}"
    for name, one in warm["pass"].items():
        seconds = f"{one['wall_s']:>7.2f} s{one['commands_s']:>8.2f} s{one['beyond_s']:>7.2f} s"
        yield f"{name:28}{seconds}{one['own_cpu_s']:>7.2f} s{one['peak_mb']:>6.0f} MB"
    yield "\nStarting sync.py\n"
    for name, seconds in warm["start_up_s"].items():
        yield f"{name:44}{seconds:>7.3f} s"


if __name__ == "__main__":
    sys.exit(main())
