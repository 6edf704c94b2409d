"""Debian's packages for a throw-away Slurm: which are missing, whether they may be installed, their coming.

Runs on a plain Python, before any virtual environment exists, and imports nothing of ours. What is started
with these packages is decided elsewhere (throwaway.py)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# A folder of this name holds all that a throw-away cluster has; each of its daemons works in it or names it
# in its command line. That tells them from a Slurm that somebody works with.
MARKER = "throwaway-slurm"

# Package -> programs that only it brings.
PACKAGES: dict[str, tuple[str, ...]] = {
    "slurmctld": ("slurmctld",),
    "slurmd": ("slurmd", "slurmstepd"),
    "slurm-client": ("squeue", "sacct", "scontrol", "sinfo", "sbatch", "srun", "sacctmgr"),
    "slurmdbd": ("slurmdbd",),
    "munge": ("munged",),
    "mariadb-server": ("mariadbd", "mariadb-install-db"),
    "redis-server": ("redis-server",),
}
SLURM_PROGRAMS = frozenset({"slurmctld", "slurmd", "slurmdbd", "munged"})
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"])
APT_TIMEOUT_S = 900

POLICY = Path("/usr/sbin/policy-rc.d")
# The second line tells our policy from one of the machine's, should we be killed before taking it away.
POLICY_TEXT = "#!/bin/sh\n# throw-away Slurm: no service starts while its packages are installed\nexit 101\n"


class NotPossible(Exception):
    """The packages cannot be installed here; the text says why and what to do."""


class Process(NamedTuple):
    pid: int
    parent: int
    name: str  # as the kernel has it, cut at 15 characters
    command: tuple[str, ...]  # empty: a zombie or a thread of the kernel
    environment: tuple[str, ...]  # empty also where we may not read it, like the next
    folder: str = ""  # its working directory


def read_processes(proc: Path = Path("/proc")) -> list[Process]:
    """All processes of the machine; one that ends meanwhile is left out."""
    found = []
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            found.append(_read_process(folder))
    return found


def _read_process(folder: Path) -> Process:
    name, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")
    environment, place = b"", ""
    with contextlib.suppress(PermissionError):
        environment = (folder / "environ").read_bytes()
        place = str((folder / "cwd").readlink())
    command = _split((folder / "cmdline").read_bytes())
    parent = int(rest.split()[1])
    return Process(int(folder.name), parent, name.partition("(")[2], command, _split(environment), place)


def _split(raw: bytes) -> tuple[str, ...]:
    return tuple(part for part in raw.decode(errors="replace").split("\0") if part)


def slurm_in_use(
    processes: Iterable[Process] | None = None, files: Iterable[Path] | None = None
) -> str | None:
    """Why a Slurm that is not ours is at work here; None: there is none."""
    for process in read_processes() if processes is None else processes:
        if _is_slurm(process) and not _is_ours(process):
            return f"{process.name} (process {process.pid}) is running on this machine"
    for file in sorted(Path("/etc").glob("slurm*/slurm.conf")) if files is None else files:
        return f"{file} is there: this machine belongs to a Slurm cluster"
    return None


def _is_slurm(process: Process) -> bool:
    # Ours that were killed may stay behind as zombies where nothing reaps: they have no command line.
    if not process.command:
        return False
    return bool({process.name, Path(process.command[0]).name} & SLURM_PROGRAMS)


def _is_ours(process: Process) -> bool:
    return any(MARKER in text for text in (*process.command, *process.environment, process.folder))


def find_program(name: str, path: str = SEARCH_PATH) -> str | None:
    return shutil.which(name, path=path)


def missing(names: Iterable[str] = tuple(PACKAGES), path: str = SEARCH_PATH) -> list[str]:
    """Those packages of which a program is not there, however it would have come."""
    return [name for name in names if not all(find_program(program, path) for program in PACKAGES[name])]


def refusal() -> str | None:
    """Why packages cannot be installed here; None: they can."""
    if os.geteuid() != 0:
        return "installing packages and running daemons as several users needs root"
    if not shutil.which("apt-get", path=SEARCH_PATH):
        return "there is no apt-get: this is not Debian or a relative of it"
    return slurm_in_use()


def install(names: Sequence[str]) -> None:
    """Install, with nothing started, now or at the next boot. NotPossible: nothing of it works here."""
    reason = refusal()
    if reason:
        raise NotPossible(reason)
    if not names:
        return
    with no_services():
        fresh = any(_apt("apt-cache", "show", name).returncode for name in names)
        if fresh:
            _update_lists()
        result = _apt_install(names)
        if result.returncode and not fresh:  # lists that are old name files that the mirror no longer has
            _update_lists()
            result = _apt_install(names)
        if result.returncode:
            raise NotPossible(f"apt-get install {' '.join(names)} failed:\n{_tail(result.stdout)}")
        _disable_services(names)


def _apt_install(names: Sequence[str]) -> subprocess.CompletedProcess[str]:
    options = ["-o", "DPkg::Lock::Timeout=60", "-o", "Dpkg::Options::=--force-confold"]
    return _apt("apt-get", *options, "install", "-y", "--no-install-recommends", *names)


def _update_lists() -> None:
    result = _apt("apt-get", "update")
    if result.returncode:
        raise NotPossible(f"apt-get update failed:\n{_tail(result.stdout)}")


def _apt(*command: str) -> subprocess.CompletedProcess[str]:
    ours = {"PATH": SEARCH_PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            command, env={**os.environ, **ours}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=APT_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotPossible(f"{' '.join(command)}: {error}") from error


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])


def _disable_services(names: Iterable[str]) -> None:
    """Debian enables what it installs: after a reboot munged would run, and look like a Slurm in use."""
    for name in names:
        service = {"mariadb-server": "mariadb"}.get(name, name)
        if Path("/etc/init.d", service).exists():
            _apt("update-rc.d", service, "disable")


@contextlib.contextmanager
def no_services(policy: Path = POLICY) -> Iterator[None]:
    """Keep packages from starting services; the machine's own policy, or its absence, comes back after."""
    aside = policy.with_name(policy.name + ".aside")
    if policy.exists() and policy.read_bytes() != POLICY_TEXT.encode():
        policy.replace(aside)
    try:
        policy.write_text(POLICY_TEXT)
        policy.chmod(0o755)
        yield
    finally:
        if aside.exists():
            aside.replace(policy)
        else:
            policy.unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> int:
    """`packages.py` tells what is missing, `packages.py --install` brings it."""
    names = missing()
    if not names:
        print("all packages are there")
        return 0
    if "--install" not in arguments:
        print(f"missing: {' '.join(names)}")
        return 1
    try:
        install(names)
    except NotPossible as error:
        print(f"not possible: {error}")
        return 1
    print(f"installed: {' '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
