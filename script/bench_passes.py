"""What a pass with nothing new takes beyond Slurm's commands, for script/bench.

sync.py runs as cron runs it, against stand-ins for the commands, which are also run alone, in the same
order and side by side as in the pass. Own figures are those of the pass less those of the commands.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench_answers import CLUSTER, COMMANDS, write_answers
from bench_jobs import Site
from bench_targets import ROOT, TOKEN, Double, redis_server

CHILD = Path(__file__).with_name("bench_child.py")
GOAL_S, GOAL_MB = 0.4, 100.0
GOAL_FOR = ("cc-backend", "sqlite")
STARTS_A_PASS = 2_000


class Took(NamedTuple):
    """What one pass took, and the commands in it when they were run alone right after it."""

    wall_s: float
    commands_s: float
    cpu_s: float  # its own
    peak_mb: float  # of the largest process, which is its own

    @property
    def beyond_s(self) -> float:
        return self.wall_s - self.commands_s


class Bench:
    """A folder with the commands and their answers, and the targets' sections of a configuration."""

    def __init__(self, folder: Path, cluster: str) -> None:
        self.folder, self.cluster = folder, cluster
        self.sections: dict[str, dict[str, Any]] = {}
        self._log = folder / "answers" / "asked"
        # Compiled once and kept, as in an installation that its owner may write to.
        plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environment = {**plain, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}

    def config(self, targets: Sequence[str]) -> Path:
        """Its own state file for each set of targets."""
        place = self.folder / "-".join(targets)
        place.mkdir(mode=0o700, exist_ok=True)
        document = {
            "clustername": self.cluster,
            "state_dir": str(place),
            "slurm": {name: str(self.folder / "answers" / name) for name in COMMANDS},
            **{target: self.sections[target] for target in targets},
        }
        path = place / "config.json"
        path.write_text(json.dumps(document))
        path.chmod(0o600)
        return path

    def run(self, *options: str) -> dict[str, float]:
        """sync.py with these options, as a process of its own."""
        command = [sys.executable, "-IS", str(CHILD), sys.executable, str(ROOT / "sync.py"), *options]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        took: dict[str, float] = json.loads(done.stdout)
        if took["code"]:
            sys.exit(f"sync.py {' '.join(options)} ended with {took['code']:.0f}:\n{done.stderr}")
        return took

    def asked(self) -> list[list[str]]:
        """The commands run since the last call."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return [line.split("\x1f") for line in lines]

    def run_alone(self, asked: Sequence[Sequence[str]]) -> tuple[float, float]:
        """Wall and CPU seconds of these commands: the listing beside the nodes, then what comes after."""
        commands = [[str(self.folder / "answers" / name), *rest] for name, *rest in asked]
        nodes = [c for c in commands if "--version" in c or "nodes" in c]
        listing = [c for c in commands if "-O" in c]
        rest = [c for c in commands if c not in nodes and c not in listing]
        before, began = _children_cpu_s(), time.perf_counter()
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(_run_all, nodes)
            _run_all(listing)
            beside.result()
        _run_all(rest)
        took = time.perf_counter() - began, _children_cpu_s() - before
        self._log.unlink()
        return took


def _run_all(commands: Sequence[Sequence[str]]) -> None:
    """Each read to its end, as a pass has to."""
    for command in commands:
        subprocess.run(command, stdout=subprocess.PIPE, check=True)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: Path, site: Site, repeat: int) -> dict[str, Any]:
    """Passes with nothing new, and starts of sync.py, with targets that hold all of the jobs."""
    bench = Bench(folder, CLUSTER)
    clusters = write_answers(folder / "answers", site)
    with Double(folder, clusters) as double, redis_server(folder) as redis:
        bench.sections["cc-backend"] = _cc_section(folder, double.url)
        bench.sections["sqlite"] = {"path": str(folder / "jobs.db")}
        if redis is not None:
            bench.sections["redis"] = {"url": redis}
        configs = {" + ".join(one): bench.config(one) for one in _sets(tuple(bench.sections))}
        _fill(bench, configs, site, double)
        told = double.told()
        took, asked = _passes(bench, configs, repeat)
        figures = {name: _middle(passes) for name, passes in took.items()}
        goals = _goals(figures, asked, double.told() - told)
        return {"pass": figures, "start_up_s": _start_up(bench, configs, repeat), "goals": goals}


def _cc_section(folder: Path, url: str) -> dict[str, Any]:
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    return {"host": url, "apikey": {"file": str(token)}}


def _sets(targets: Sequence[str]) -> list[tuple[str, ...]]:
    """Each alone, those that the goal is for, and all."""
    return list(dict.fromkeys([*((t,) for t in targets), GOAL_FOR, tuple(targets)]))


def _fill(bench: Bench, configs: Mapping[str, Path], site: Site, double: Double) -> None:
    """Until each target holds all of the jobs, and each state file knows it."""
    *_, everything = configs.values()
    for _ in range(-(-site.running // STARTS_A_PASS)):
        bench.run("-q", "-c", str(everything))
    double.commit()
    for config in configs.values():
        for _ in range(2):  # the second one knows what the first one remembered
            bench.run("-q", "-c", str(config))
    bench.asked()


def _passes(
    bench: Bench, configs: Mapping[str, Path], repeat: int
) -> tuple[dict[str, list[Took]], list[list[str]]]:
    """Passes of each configuration in turn, and all commands that were asked for in them."""
    found: dict[str, list[Took]] = {name: [] for name in configs}
    asked: list[list[str]] = []
    for _ in range(repeat):
        for name, config in configs.items():
            took = bench.run("-q", "-c", str(config))
            commands = bench.asked()
            alone_s, alone_cpu_s = bench.run_alone(commands)
            found[name].append(Took(took["wall_s"], alone_s, took["cpu_s"] - alone_cpu_s, took["peak_mb"]))
            asked += commands
    return found, asked


def _start_up(bench: Bench, configs: Mapping[str, Path], repeat: int) -> dict[str, float]:
    """Seconds for what loads the program, and for what loads a configuration's targets as well."""
    options = {"--version": ["--version"]}
    options |= {f"--show-config: {name}": ["--show-config", "-c", str(c)] for name, c in configs.items()}
    found: dict[str, list[float]] = {name: [] for name in options}
    for _ in range(repeat):
        for name, given in options.items():
            found[name].append(bench.run(*given)["wall_s"])
    return {name: median(seconds) for name, seconds in found.items()}


def _middle(took: Sequence[Took]) -> dict[str, float]:
    """Medians."""
    return {
        "wall_s": median(t.wall_s for t in took),
        "commands_s": median(t.commands_s for t in took),
        "beyond_s": median(t.beyond_s for t in took),
        "own_cpu_s": median(t.cpu_s for t in took),
        "peak_mb": median(t.peak_mb for t in took),
    }


def _goals(
    figures: Mapping[str, Mapping[str, float]], asked: Sequence[Sequence[str]], told: int
) -> list[tuple[bool, str]]:
    """Which are met; `told`: starts and stops that were sent."""
    targets = " + ".join(GOAL_FOR)
    beyond_s = figures[targets]["beyond_s"]
    peak_mb = max(one["peak_mb"] for one in figures.values())
    details = sum("--json" in command and "squeue" in command for command in asked)
    return [
        (beyond_s <= GOAL_S, f"{beyond_s:.2f} s beyond the commands, {targets} (goal: at most {GOAL_S} s)"),
        (peak_mb < GOAL_MB, f"{peak_mb:.0f} MB at most (goal: below {GOAL_MB:.0f} MB)"),
        (details == 0, f"JSON of jobs asked for {details} times (goal: never)"),
        (told == 0, f"{told} starts and stops sent (goal: none)"),
    ]
