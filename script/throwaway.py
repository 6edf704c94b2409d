"""A throw-away Slurm cluster on this machine: real daemons, all state in one folder, nothing left running.

Runs as root on a plain Python, next to any number of its kind, never beside a Slurm that somebody works with.
What its configuration files say is throwaway_config's, how its processes are found and ended
throwaway_daemons', which programs it needs packages'."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from packages import PACKAGES, SEARCH_PATH, slurm_in_use
from throwaway_config import (
    DEFAULT_PARTITIONS,
    Layout,
    NodeSpec,
    device_names,
    expand_hosts,
    render_cgroup_conf,
    render_gres_conf,
    render_slurm_conf,
    render_slurmdbd_conf,
)
from throwaway_daemons import (
    EVERYBODYS,
    START_TIMEOUT_S,
    ClusterError,
    Daemons,
    answers,
    as_user,
    choose_root,
    free_ports,
    is_loopback,
    make_device,
    umask,
    wait_until,
)

__all__ = ["Cluster", "ClusterError", "NodeSpec"]

# Users that every Debian has, with the accounts they may charge, the default one first.
DEFAULT_USERS: Mapping[str, Sequence[str]] = {
    "games": ("physics", "chemistry"),
    "news": ("chemistry",),
    "backup": ("physics",),
}
FOR_ACCOUNTING = ("slurmdbd", "mariadb-server")
# Small and quick; what it holds is lost with the machine's power.
MARIADB_OPTIONS = [
    "--skip-networking",
    "--innodb-buffer-pool-size=24M",
    "--innodb-log-file-size=8M",
    "--innodb-doublewrite=0",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-use-native-aio=0",
    "--performance-schema=0",
    "--debug-no-sync",
]


class Cluster:
    """`with Cluster(folder, nodes=[NodeSpec("n[1-3]")]) as cluster:` is a running Slurm."""

    def __init__(  # noqa: PLR0913 - keywords, all but one with a default
        self,
        folder: Path,
        *,
        nodes: Sequence[NodeSpec],
        name: str = "demo",
        partitions: Mapping[str, str] = DEFAULT_PARTITIONS,  # name → options, as slurm.conf has them
        users: Mapping[str, Sequence[str]] = DEFAULT_USERS,  # user of the machine → accounts
        accounting: bool = True,
        prefix: Path | None = None,  # where another release of Slurm is installed
        min_job_age_s: int = 300,
        extra_conf: str = "",  # lines of slurm.conf; they replace ours of the same key
    ) -> None:
        self.root = choose_root(folder)
        self.conf = self.root / "slurm.conf"
        self.state_save = self.root / "state"
        self.node_names = [host for node in nodes for host in expand_hosts(node.names)]
        own = f"{prefix}/bin{os.pathsep}{prefix}/sbin{os.pathsep}" if prefix else ""
        self.env = {"PATH": own + SEARCH_PATH, "SLURM_CONF": str(self.conf), "LC_ALL": "C.UTF-8"}
        controller, dbd, *ports = free_ports(len(self.node_names) + 2)
        host = socket.gethostname()
        self.layout = Layout(
            self.root, name, host, nodes, controller, dbd if accounting else None,
            dict(zip(self.node_names, ports, strict=True)), partitions, min_job_age_s,
            bind_to_hostname=is_loopback(host), extra_conf=extra_conf,
        )  # fmt: skip
        self._users = users
        self._daemons = Daemons(self.root, self.env)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def commands(self) -> dict[str, str]:
        """Absolute paths of the commands that a reader of this cluster needs."""
        return {name: self._program(name) for name in ("squeue", "sacct", "scontrol", "sinfo")}

    @property
    def release(self) -> tuple[int, int]:
        """Slurm's, such as (22, 5)."""
        words = self.run([self._program("slurmctld"), "-V"], "root").split()
        major, minor = words[-1].split(".")[:2]
        return int(major), int(minor)

    def start(self) -> None:
        """All daemons up, all nodes idle; on a failure nothing is left running."""
        self._check()
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self._daemons.kill_all()  # of an earlier cluster in this folder that was not stopped
            self._prepare()
            self._start_munged()
            if self.layout.accounting_port:
                self._start_mariadb()
                self.start_slurmdbd()
                self._add_users()
            self.start_slurmctld()
            for node in self.node_names:
                self._launch_slurmd(node)
            for node in self.node_names:
                self._wait_for_slurmd(node)
            self.wait_until(self._is_idle, START_TIMEOUT_S, "all nodes are idle")
            undo.pop_all()

    def stop(self) -> None:
        """End everything that belongs to the cluster, jobs too. Below the folder asked for, logs stay."""
        self._daemons.kill_all()
        bulky = self.root if self.root.parent == EVERYBODYS else self.root / "mysql"
        shutil.rmtree(bulky, ignore_errors=True)

    def start_slurmdbd(self) -> None:
        # slurmdbd.conf has no word for the database's socket; the client library reads it from here.
        environment = {"MYSQL_UNIX_PORT": f"{self.root}/mysql/socket"}
        self._daemons.launch("slurmdbd", [self._program("slurmdbd"), "-D"], extra=environment)
        self._daemons.wait_for("slurmdbd", lambda: answers(self.layout.accounting_port or 0))

    def stop_slurmdbd(self) -> None:
        self._daemons.end("slurmdbd")

    def start_slurmctld(self) -> None:
        command = [self._program("slurmctld"), "-D", "-i", "-f", str(self.conf)]
        self._daemons.launch("slurmctld", command)
        self._daemons.wait_for("slurmctld", lambda: answers(self.layout.controller_port))

    def stop_slurmctld(self) -> None:
        """It saves its state; jobs go on, and the next start finds them."""
        self._daemons.end("slurmctld")

    def start_slurmd(self, node: str) -> None:
        self._launch_slurmd(node)
        self._wait_for_slurmd(node)

    def kill_slurmd(self, node: str) -> None:
        """As if the node lost its power: the daemon, its steps and their tasks are gone at once."""
        self._daemons.end("slurmd", "-N", node, by=signal.SIGKILL)
        self._daemons.kill_steps(node)

    def run(self, command: Sequence[str], user: str = "games", input: str = "", timeout_s: float = 60) -> str:
        """What a command prints for a user of this machine; bytes that are no UTF-8 pass both ways."""
        said = f"{' '.join(command)} (as {user})"
        environment = {**self.env, "USER": user, "LOGNAME": user, "HOME": str(EVERYBODYS)}
        try:
            result: subprocess.CompletedProcess[str] = subprocess.run(
                command, input=input, capture_output=True, timeout=timeout_s, check=False, cwd=EVERYBODYS,
                encoding="utf-8", errors="surrogateescape", env=environment, **as_user(user),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ClusterError(f"{said}: {error}") from error
        if result.returncode:
            reason = (result.stderr or result.stdout).strip()
            raise ClusterError(f"{said} ended with exit code {result.returncode}: {reason}")
        return result.stdout

    def submit(self, script: str, *arguments: str, user: str = "games") -> int:
        """A batch job's id; a script that names no interpreter is sh's."""
        text = script if script.startswith("#!") else f"#!/bin/sh\n{script}\n"
        command = ["sbatch", "--parsable", f"--chdir={EVERYBODYS}", "--output=/dev/null", *arguments]
        return int(self.run(command, user=user, input=text).split(";")[0])

    def state_of(self, job: int | str) -> str:
        """One word of squeue, also while the job is kept after its end; of several tasks the first."""
        words = self.run(["squeue", "-h", "-a", "-t", "all", "-o", "%T", "-j", str(job)], "root").split()
        return words[0] if words else ""

    def wait_until(
        self, predicate: Callable[[], object], timeout_s: float = 30, what: str = "the cluster is as awaited"
    ) -> None:
        """Ask ten times a second; a predicate may raise ClusterError while the cluster is not there yet."""
        try:
            wait_until(predicate, timeout_s, what)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self._daemons.tail('slurmctld')}") from error

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise ClusterError("a throw-away cluster needs root: its daemons and jobs run as several users")
        reason = slurm_in_use()
        if reason:
            raise ClusterError(f"no throw-away cluster beside a Slurm in use: {reason}")
        unneeded = {"redis-server"} if self.layout.accounting_port else {"redis-server", *FOR_ACCOUNTING}
        for package in PACKAGES.keys() - unneeded:
            for program in PACKAGES[package]:
                self._program(program)

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=self.env["PATH"])
        if not found:
            raise ClusterError(f"{name} is not there; script/packages.py --install brings it")
        return found

    def _prepare(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        with umask(0o022):
            for name in ("munge", "state", "spool", "run", "log", "dev", "mysql"):
                (self.root / name).mkdir(parents=True)
            self.conf.write_text(render_slurm_conf(self.layout))
            (self.root / "gres.conf").write_text(render_gres_conf(self.layout))
            (self.root / "cgroup.conf").write_text(render_cgroup_conf(self.release))
        with umask(0o077):
            (self.root / "slurmdbd.conf").write_text(render_slurmdbd_conf(self.layout))
            (self.root / "munge" / "key").write_bytes(os.urandom(1024))
        for path, owner in (("munge", "munge"), ("munge/key", "munge"), ("mysql", "mysql")):
            shutil.chown(self.root / path, owner)
        for device in device_names(self.layout.nodes):
            make_device(self.root / "dev" / device)

    def _start_munged(self) -> None:
        folder = self.root / "munge"
        options = ("key-file", "socket", "pid-file", "log-file", "seed-file")
        words = [f"--{option}={folder / option.removesuffix('-file')}" for option in options]
        self._daemons.launch("munged", [self._program("munged"), "--foreground", *words], user="munge")
        self._daemons.wait_for("munged", lambda: answers(str(self.layout.munge_socket)))

    def _start_mariadb(self) -> None:
        own = ["--no-defaults", "--user=mysql", f"--datadir={self.root}/mysql/data"]
        create = [
            "--force",
            "--skip-test-db",
            "--skip-name-resolve",
            "--auth-root-authentication-method=socket",
        ]
        program = self._program("mariadb-install-db")
        self._daemons.launch("mariadb-install-db", [program, *own, *create, *MARIADB_OPTIONS])
        self._daemons.finish("mariadb-install-db")
        paths = [f"--socket={self.root}/mysql/socket", f"--pid-file={self.root}/mysql/pid"]
        self._daemons.launch("mariadbd", [self._program("mariadbd"), *own, *paths, *MARIADB_OPTIONS])
        self._daemons.wait_for("mariadbd", lambda: answers(f"{self.root}/mysql/socket"))

    def _add_users(self) -> None:
        add = ["sacctmgr", "-i", "-Q", "add"]
        self.run([*add, "cluster", self.layout.name], "root")
        accounts = sorted({account for own in self._users.values() for account in own})
        if accounts:
            self.run([*add, "account", ",".join(accounts)], "root")
        for user, own in self._users.items():
            self.run([*add, "user", user, f"account={','.join(own)}", f"defaultaccount={own[0]}"], "root")

    def _launch_slurmd(self, node: str) -> None:
        command = [self._program("slurmd"), "-D", "-N", node, "-f", str(self.conf)]
        self._daemons.launch(f"slurmd-{node}", command)

    def _wait_for_slurmd(self, node: str) -> None:
        self._daemons.wait_for(f"slurmd-{node}", lambda: answers(self.layout.node_ports[node]))

    def _is_idle(self) -> bool:
        lines = self.run(["sinfo", "-h", "-N", "-o", "%N %T"], "root").splitlines()
        return set(lines) == {f"{name} idle" for name in self.node_names}
