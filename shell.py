"""Runs commands; the only file that starts a process.

Argument lists, never a shell's text; an environment built from nothing; a timeout that ends the whole
process group. What the bytes mean is for the readers in slurm/.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

log = logging.getLogger(__name__)

STDERR_LINES = 3
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CommandError(Exception):
    """A command that could not be run, failed, or did not end in time; with what it said on stderr."""


class Answer(msgspec.Struct, frozen=True):
    stdout: bytes
    stderr: str
    code: int


class Tally(msgspec.Struct):
    """What the commands of a pass cost."""

    commands: int = 0
    bytes_read: int = 0
    seconds: float = 0.0


class Shell(Protocol):
    """Where Slurm's commands run."""

    tally: Tally

    def run(self, argv: Sequence[str], timeout_s: float, extra: Mapping[str, str] | None = None) -> Answer:
        """Run to its end, whatever its exit code. Raise CommandError if it cannot start or end in time."""
        ...


class LocalShell:
    """Commands on this machine."""

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        # From nothing: SQUEUE_*, SACCT_*, SLURM_CLUSTERS and LANG of the caller change what Slurm prints.
        self._environment = {"PATH": environ.get("PATH", DEFAULT_PATH), "LC_ALL": "C.UTF-8"}
        if "SLURM_CONF" in environ:
            self._environment["SLURM_CONF"] = environ["SLURM_CONF"]
        self._clock = clock
        self.tally = Tally()

    def run(self, argv: Sequence[str], timeout_s: float, extra: Mapping[str, str] | None = None) -> Answer:
        began = self._clock()
        answer = _run_whole(argv, timeout_s, {**self._environment, **(extra or {})})
        took_s = self._clock() - began
        log.debug("%s: %.2f s, %d bytes, exit code %d", argv[0], took_s, len(answer.stdout), answer.code)
        self.tally.commands += 1
        self.tally.bytes_read += len(answer.stdout)
        self.tally.seconds += took_s
        return answer


def _run_whole(argv: Sequence[str], timeout_s: float, environment: Mapping[str, str]) -> Answer:
    try:
        process = subprocess.Popen(
            list(argv),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"{argv[0]}: cannot be run: {error.strerror}") from error
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise CommandError(f"{argv[0]}: no answer within {timeout_s:g} s") from None
        finally:
            _end_group(process)
    return Answer(stdout, stderr.decode("utf-8", "replace"), process.returncode)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)


def whole(argv: Sequence[str], answer: Answer) -> bytes:
    """The answer's stdout; raise CommandError where the exit code says that it is none."""
    if answer.code != 0:
        raise CommandError(f"{argv[0]}: exit code {answer.code}{brief(answer.stderr)}")
    return answer.stdout


def brief(stderr: str) -> str:
    """The first lines of what a command said, printable, for a log line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()][:STDERR_LINES]
    text = "; ".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)
    return f": {text[:500]}" if text else ""
