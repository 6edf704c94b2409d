"""Commands run: whole answers, an environment from nothing, time-outs that end all that was started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shell import DEFAULT_PATH, Answer, CommandError, LocalShell, Tally, brief, whole

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
PATH = os.environ["PATH"]


def script(folder: Path, text: str, name: str = "squeue") -> str:
    """A stand-in for a command."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)
    return str(path)


def run(argv: list[str], timeout_s: float = 10, extra: dict[str, str] | None = None) -> Answer:
    return LocalShell({"PATH": PATH}).run(argv, timeout_s, extra)


def test_an_answer_has_its_bytes_its_stderr_and_its_code(tmp_path: Path) -> None:
    command = script(tmp_path, r"printf 'a\000b\377'; printf 'caf\351' >&2; exit 3")
    assert run([command]) == Answer(b"a\x00b\xff", "caf\ufffd", 3)


def test_arguments_are_passed_as_they_are(tmp_path: Path) -> None:
    command = script(tmp_path, """printf '%s\\n' "$@" """)
    arguments = ["a b", "$(id)", "; exit 5", "*", "", "'", '"', "é\n"]
    assert run([command, *arguments]).stdout.decode() == "".join(f"{a}\n" for a in arguments)


def test_the_environment_is_built_from_nothing(tmp_path: Path) -> None:
    caller = {
        **{"PATH": PATH, "SLURM_CONF": "/etc/slurm.conf", "LANG": "de_DE", "LC_ALL": "C", "HOME": "/root"},
        **{"SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "PD", "SACCT_FORMAT": "jobid", "SLURM_CLUSTERS": "other"},
        **{"SLURM_TIME_FORMAT": "relative", "TOKEN": "hunter2"},
    }
    answer = LocalShell(caller).run(["/usr/bin/env"], 10, {"SLURM_TIME_FORMAT": "%s"})
    assert sorted(answer.stdout.decode().splitlines()) == sorted(
        ["LC_ALL=C.UTF-8", f"PATH={PATH}", "SLURM_CONF=/etc/slurm.conf", "SLURM_TIME_FORMAT=%s"]
    )


def test_a_caller_without_path_and_configuration_gets_the_usual_path() -> None:
    answer = LocalShell({}).run(["/usr/bin/env"], 10)
    assert sorted(answer.stdout.decode().splitlines()) == ["LC_ALL=C.UTF-8", f"PATH={DEFAULT_PATH}"]


def test_a_command_reads_nothing_from_the_caller(tmp_path: Path) -> None:
    assert run([script(tmp_path, "cat; echo done")]).stdout == b"done\n"


@pytest.mark.parametrize("big", [1_000_000])
def test_much_on_both_outputs_does_not_block(tmp_path: Path, big: int) -> None:
    answer = run([script(tmp_path, f"head -c {big} /dev/zero; head -c {big} /dev/zero >&2")])
    assert (len(answer.stdout), len(answer.stderr)) == (big, big)


def test_a_command_that_is_not_there_or_no_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"^/nowhere/squeue: cannot be run: No such file or directory$"):
        run(["/nowhere/squeue"])
    with pytest.raises(CommandError, match="cannot be run: Permission denied"):
        run([str(tmp_path)])
    (tmp_path / "junk").write_bytes(b"\x7fjunk")
    (tmp_path / "junk").chmod(0o755)
    with pytest.raises(CommandError, match="cannot be run: Exec format error"):
        run([str(tmp_path / "junk")])


def is_alive(pid: int) -> bool:
    """Whether a process is there and no corpse."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> None:
    for _ in range(200):
        if not is_alive(pid):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still lives")


STUBBORN = "trap '' TERM INT HUP\n(trap '' TERM INT HUP; sleep 60) &\necho $! $$ >{}\nprintf half\n{}"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("end", ["wait", "exit 0", "exec sleep 60"])
def test_a_time_out_ends_the_command_and_its_children_that_ignore_sigterm(tmp_path: Path, end: str) -> None:
    pids = tmp_path / "pids"
    command = script(tmp_path, STUBBORN.format(pids, end))
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"/squeue: no answer within 0\.5 s$"):
        run([command], timeout_s=0.5)
    assert time.monotonic() - began < 5
    for pid in pids.read_text("ascii").split():
        wait_until_gone(int(pid))


def test_a_tally_counts_commands_bytes_and_seconds(tmp_path: Path) -> None:
    ticks = iter([10.0, 12.5, 20.0, 21.0])
    shell = LocalShell({"PATH": PATH}, clock=lambda: next(ticks))
    command = script(tmp_path, "printf 12345")
    shell.run([command], 10)
    shell.run([command], 10)
    assert shell.tally == Tally(commands=2, bytes_read=10, seconds=3.5)


def test_an_answer_with_exit_code_0_is_whole_and_any_other_is_none() -> None:
    assert whole(["squeue"], Answer(b"text", "squeue: error: dump_job_info: array size wrong", 0)) == b"text"
    with pytest.raises(CommandError, match=r"^squeue: exit code 1: slurm_load_jobs error: Unable$"):
        whole(["squeue"], Answer(b"half", "\n slurm_load_jobs error: Unable \n", 1))
    with pytest.raises(CommandError, match=r"^squeue: exit code -9$"):
        whole(["squeue"], Answer(b"", "", -9))


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        ("", ""),
        ("\n \n", ""),
        ("one\n\n two \nthree\nfour\n", ": one; two; three"),
        ("a\x1b[2Jb\x07\x00\u202e", ": a?[2Jb???"),
        ("x" * 600, ": " + "x" * 500),
    ],
)
def test_what_was_said_is_told_in_brief_and_printable(stderr: str, told: str) -> None:
    assert brief(stderr) == told


@PROPERTY
@given(st.text())
def test_what_was_said_moves_no_cursor(stderr: str) -> None:
    assert brief(stderr).isprintable()
