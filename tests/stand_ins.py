"""Stand-ins for Slurm's commands, which note how they are called and answer what a test tells them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recordings import CLUSTER, Recorded, accounting_text

from shell import LocalShell
from slurm.commands import Programs, SlurmCommands

NOW = 1_795_231_884
STAND_IN = """#!/bin/sh
cd {folder}
for argument in {name} "$@"; do printf '%s\\037' "$argument"; done >>calls
echo >>calls
env >{name}.env
if [ "$1" = --version ]; then cat version; exit 0; fi
separator=$(printf %s "$*" | sed -n 's/.*--delimiter=\\([^ ]*\\).*/\\1/p; s/.*admin_comment://p')
cat {name}.stderr >&2
sed "s/@SEP@/$separator/g" {name}.stdout
exit "$(cat {name}.code)"
"""


class Cluster:
    """Stand-ins for Slurm's commands, which note how they are called."""

    def __init__(self, folder: Path, version: str = "slurm 24.05.1") -> None:
        self.folder = folder
        (folder / "version").write_text(version + "\n", "utf-8")
        (folder / "calls").touch()
        for name in ("squeue", "sacct", "scontrol", "sinfo", "sdiag"):
            (folder / name).write_text(STAND_IN.format(folder=folder, name=name), "utf-8")
            (folder / name).chmod(0o755)
            self.answers(name, b"")

    def answers(self, name: str, stdout: bytes, stderr: str = "", code: int = 0) -> None:
        (self.folder / f"{name}.stdout").write_bytes(stdout)
        (self.folder / f"{name}.stderr").write_text(stderr, "utf-8")
        (self.folder / f"{name}.code").write_text(str(code), "ascii")

    def calls(self, *name: str) -> list[list[str]]:
        """All calls but those for the version, by command."""
        lines = (self.folder / "calls").read_text("utf-8").splitlines()
        calls = [line.split("\x1f")[:-1] for line in lines]
        return [call for call in calls if call[1:] != ["--version"] and (not name or call[0] in name)]

    def environment(self, name: str) -> set[str]:
        lines = (self.folder / f"{name}.env").read_text("utf-8").splitlines()
        return {line for line in lines if not line.startswith(("PATH=", "PWD=", "OLDPWD=", "SHLVL=", "_="))}

    def source(
        self, timeout_s: float = 10, sacct: bool = True, caller: Mapping[str, str] = {}
    ) -> SlurmCommands:
        at = {name: str(self.folder / name) for name in ("squeue", "sacct", "scontrol", "sinfo", "sdiag")}
        programs = Programs(
            at["squeue"], at["sacct"] if sacct else None, at["scontrol"], at["sinfo"], at["sdiag"]
        )
        shell = LocalShell({"PATH": "/usr/bin:/bin", **caller})
        return SlurmCommands(shell, programs, CLUSTER, lambda: timeout_s, clock=lambda: NOW + 0.9)


def recorded_cluster(folder: Path, recorded: Recorded) -> Cluster:
    """One that answers as a recorded cluster did."""
    cluster = Cluster(folder, recorded.read("version.txt").decode().strip())
    cluster.answers("squeue", recorded.read("squeue.json"))
    cluster.answers("sacct", accounting_text(recorded.json("sacct.json")["jobs"], "@SEP@"))
    nodes = "sinfo" if recorded.nodes_file == "sinfo.json" else "scontrol"
    cluster.answers("scontrol", recorded.read("scontrol_job_d.txt"))
    cluster.answers(nodes, recorded.read(recorded.nodes_file))
    cluster.answers("sdiag", recorded.read("sdiag.txt"))
    return cluster
