"""Processes and places of a throw-away cluster: start a daemon, wait until it answers, find and end them.

Knows how Slurm's processes can be told apart, not what they are started for (throwaway.py)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import random
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packages import MARKER, SLURM_PROGRAMS, Process, read_processes

EVERYBODYS = Path("/tmp")  # noqa: S108 - every user can read there, which the folder asked for may not offer
# A socket's path may have 107 characters; slurmstepd's adds some 45 to the root.
ROOT_MAX_LENGTH = 60
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
PORTS = range(20000, 32000)  # below those that the kernel hands out
DAEMONS = SLURM_PROGRAMS | {"slurmstepd", "slurmscriptd", "mariadbd", "mariadb-install"}
WAITING_CLIENTS = frozenset({"srun", "salloc"})


class ClusterError(Exception):
    """The cluster, or a command on it, failed; the text holds the end of what the program said."""


def choose_root(folder: Path) -> Path:
    """Below `folder` if all users get there, munged trusts the way and sockets' names fit; else in /tmp."""
    root = folder.resolve() / MARKER
    if len(str(root)) <= ROOT_MAX_LENGTH and all(_is_open_to_all(parent) for parent in root.parents):
        return root
    # The name follows from the folder's: another process can find and stop the cluster.
    return EVERYBODYS / f"{MARKER}-{hashlib.sha256(str(root).encode()).hexdigest()[:10]}"


def _is_open_to_all(folder: Path) -> bool:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return True  # we are going to make it
    safe = not status.st_mode & 0o022 or status.st_mode & stat.S_ISVTX
    return status.st_uid == 0 and bool(status.st_mode & stat.S_IXOTH) and bool(safe)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def make_device(path: Path) -> None:
    """A character device that Slurm takes for a card."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:  # a container without the right to make devices: Slurm follows links
        path.symlink_to("/dev/null")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on; chosen at random, since clusters may start side by side."""
    ports: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise ClusterError(f"no {count} free ports between {PORTS[0]} and {PORTS[-1]}")


def is_loopback(host: str) -> bool:
    """Whether a daemon that binds to this name hears 127.0.0.1; in most containers it is another address."""
    try:
        return socket.gethostbyname(host).startswith("127.")
    except OSError:
        return False


def answers(address: str | int) -> bool:
    """Whether somebody listens: on a socket's path, or on a port of 127.0.0.1."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex(address if isinstance(address, str) else ("127.0.0.1", address)) == 0


def as_user(name: str) -> dict[str, Any]:
    """Arguments that make subprocess start a program as that user, in none of our groups."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise ClusterError(f"this machine has no user {name}") from error
    if entry.pw_uid == os.geteuid():
        return {}
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def wait_until(predicate: Callable[[], object], timeout_s: float, what: str) -> None:
    """Ask ten times a second; a predicate may raise ClusterError while the cluster is not there yet."""
    deadline = time.monotonic() + timeout_s
    reason = ""
    while True:
        try:
            if predicate():
                return
            reason = ""
        except ClusterError as error:
            reason = f": {error}"
        if time.monotonic() > deadline:
            raise ClusterError(f"after {timeout_s:.0f} s it is not so that {what}{reason}")
        time.sleep(0.1)


class Daemons:
    """The processes of the cluster in `root`, also those that another process of ours has started."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root = root
        self.environment = dict(environment)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def launch(
        self, name: str, command: Sequence[str], user: str = "root", extra: Mapping[str, str] | None = None
    ) -> None:
        """In the foreground of a session of its own, so that an interrupt at a terminal does not reach it."""
        # The working directory tells our processes: slurmstepd overwrites its command line and environment.
        environment = {**self.environment, **(extra or {})}
        with self._log(name).open("ab") as log:
            self._children[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                cwd=self.root, umask=0o022, env=environment, **as_user(user),
            )  # fmt: skip

    def wait_for(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Until a launched daemon answers. ClusterError with the end of its log: it ended, or is too slow."""
        child = self._children[name]
        try:
            wait_until(lambda: child.poll() is not None or is_ready(), START_TIMEOUT_S, f"{name} answers")
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self.tail(name)}") from error
        if child.poll() is not None:
            raise ClusterError(f"{name} ended with exit code {child.returncode}:\n{self.tail(name)}")

    def finish(self, name: str) -> None:
        """Wait for a launched program that is to end by itself, and well."""
        child = self._children[name]
        wait_until(lambda: child.poll() is not None, START_TIMEOUT_S, f"{name} is done")
        if child.returncode:
            raise ClusterError(f"{name} ended with exit code {child.returncode}:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 15) -> str:
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _log(self, name: str) -> Path:
        return self.root / "log" / f"{name}.log"

    def end(self, name: str, *words: str, by: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon of that name with those words in its command line; it is gone on return."""

        def find() -> list[Process]:
            return [p for p in self.processes() if p.name == name and set(words) <= set(p.command)]

        send(find(), by)
        try:
            wait_until(lambda: not find(), STOP_TIMEOUT_S, f"{name} has ended")
        except ClusterError:
            send(find(), signal.SIGKILL)
            wait_until(lambda: not find(), STOP_TIMEOUT_S, f"{name} has ended")

    def kill_all(self) -> None:
        """Also jobs and their tasks, and what they start while we look."""

        def kill() -> bool:
            found = self.processes()
            send(found, signal.SIGKILL)
            return not found

        wait_until(kill, STOP_TIMEOUT_S, f"all processes of {self.root} are gone")
        for child in self._children.values():
            child.wait(STOP_TIMEOUT_S)
        self._children.clear()

    def kill_steps(self, node: str) -> None:
        """All of the steps of one node, as when its power goes."""
        found = self.processes()
        tasks = [p for p in found if f"SLURMD_NODENAME={node}" in p.environment]
        parents = {p.parent for p in tasks}
        send([p for p in found if p.name == "slurmstepd" and p.pid in parents] + tasks, signal.SIGKILL)

    def processes(self) -> list[Process]:
        """Those that run: daemons, steps, tasks with all that descends from them, and waiting clients."""
        for child in self._children.values():
            child.poll()  # else it stays behind as a zombie
        everything = read_processes()
        found = {p.pid: p for p in everything if belongs(p, self.root)}
        grown = True
        while grown:
            below = {p.pid: p for p in everything if p.parent in found and p.pid not in found}
            found |= {pid: process for pid, process in below.items() if process.command}
            grown = any(process.command for process in below.values())
        found.pop(os.getpid(), None)
        return list(found.values())


def belongs(process: Process, root: Path) -> bool:
    """Whether the process is a daemon, a step, a task or a waiting client of the cluster in that folder."""
    if not process.command:
        return False
    if process.name in DAEMONS:
        return any(f"{root}/" in text for text in (*process.command, f"{process.folder}/"))
    # More than the configuration must tell: whoever looks at the cluster has that in the environment too.
    if f"SLURM_CONF={root}/slurm.conf" not in process.environment:
        return False
    in_job = any(text.startswith("SLURM_JOB_ID=") for text in process.environment)
    return in_job or process.name in WAITING_CLIENTS


def send(processes: Iterable[Process], what: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, what)
