"""Exit codes, the lock, the pause after failures of Slurm, and how often a fault is said."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from histories import History
from recorded_site import PROGRAM, Site
from recordings import Recorded

import sync

pytest_plugins = ["site_fixtures", "history_fixtures"]


@pytest.mark.parametrize(
    "options",
    [
        ("--jso",),
        ("--json",),
        ("--jobid", "47x"),
        ("--jobid", ","),
        ("--limit", "-1"),
        ("--limit", "many"),
        ("--direction", "up"),
        ("--only", "moons"),
        ("--debug", "--quiet"),
        ("extra",),
    ],
)
def test_what_makes_no_sense_on_the_command_line_is_2(site: Site, options: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        site.play(*options)
    assert ended.value.code == sync.USAGE
    assert not site.state.exists()


def test_a_configuration_that_cannot_be_used_is_2_and_one_line(site: Site) -> None:
    site.document["redsi"] = {}
    assert site.play() == sync.USAGE
    assert len(site.err.splitlines()) == 1
    assert "redsi" in site.err


def test_a_configuration_that_is_not_there_is_2_and_one_line() -> None:
    command = [sys.executable, "-B", str(PROGRAM), "-c", "/nowhere/config.json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (sync.USAGE, "")
    assert len(answer.stderr.splitlines()) == 1
    assert "/nowhere/config.json" in answer.stderr


def write_command(site: Site, name: str, script: str) -> str:
    path = site.folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("script", ["exit 1", "exit 0", "echo nonsense", "kill -9 $$"])
def test_a_squeue_that_gives_no_whole_answer_is_3(site: Site, script: str) -> None:
    squeue = write_command(site, "squeue", script)
    site.document["slurm"] = {"squeue": squeue, "sacct": False}
    assert site.play() == sync.NO_QUEUE
    assert squeue in site.err or "squeue: the listing" in site.err
    assert (site.posts(), site.archive.exists()) == (0, False)


def test_of_two_controllers_the_idle_one_does_nothing(site: Site) -> None:
    up = "echo 'Slurmctld(primary) at elsewhere.example.org is UP'"
    down = write_command(site, "squeue", "exit 1")
    site.document["only_on_active"] = True
    site.document["slurm"] = {"squeue": down, "scontrol": write_command(site, "scontrol", up)}
    assert site.play() == sync.OK
    assert "this is the idle controller of a pair; nothing done" in site.err
    assert not site.state.exists()
    here = up.replace("elsewhere.example.org", socket.gethostname())
    site.document["slurm"]["scontrol"] = write_command(site, "scontrol", here)
    assert site.play() == sync.NO_QUEUE


def test_a_backend_that_is_not_configured_is_2(site: Site) -> None:
    assert site.play("--backend", "redis") == sync.USAGE


@pytest.mark.parametrize("answer", [b"", b"{", b'{"errors": [{"error": "down"}], "jobs": []}', b"[]"])
def test_a_queue_that_cannot_be_read_is_3_and_nothing_is_changed(
    site: Site, tmp_path: Path, answer: bytes
) -> None:
    site.play()
    before, posts = site.archive.read_bytes(), site.posts()
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in Recorded("24.11", "t1").folder.iterdir():
        if file.is_file():
            folder.joinpath(file.name).write_bytes(file.read_bytes())
    (folder / "squeue.json").write_bytes(answer)
    site.document["slurm"] = {"recording": str(folder)}
    assert site.play() == sync.NO_QUEUE
    assert "the queue could not be read, nothing is changed: " in site.err
    assert (site.archive.read_bytes(), site.posts(), len(site.double.node_states)) == (before, posts, 1)


def test_one_target_that_fails_is_1_and_the_rest_is_done(site: Site) -> None:
    site.document["cc-backend"]["host"] = "http://127.0.0.1:9"
    assert site.play() == sync.FAULT
    assert len(site.archived(True)) == 18


def test_a_state_folder_that_cannot_be_made_is_1(site: Site) -> None:
    (site.folder / "state").write_text("no folder")
    assert site.play() == sync.FAULT
    assert site.posts() == 0
    assert "state" in site.err


def test_another_pass_at_work_is_said_and_is_0_until_it_has_lasted_too_long(site: Site) -> None:
    site.play()
    with (site.state / "noctua.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        site.show("t1")
        assert site.play() == sync.OK
        assert "another pass has held" in site.err
        assert "nothing done" in site.err
        assert site.play("--quiet") == sync.OK
        assert site.err == ""
        long_ago = time.time() - 2 * 300 - 1
        os.utime(other.fileno(), (long_ago, long_ago))
        assert site.play("--quiet") == sync.FAULT
        assert "another pass has held" in site.err
        assert site.play("--dry-run") == sync.OK  # reads and tells all the same
    assert len(site.in_cc(False)) == 1
    assert site.play() == sync.OK
    assert len(site.in_cc(False)) > 1


def test_after_three_failures_in_a_row_slurm_is_asked_every_five_minutes(history: History) -> None:
    history.slurm.run()
    history.slurm.broken = {"listing"}
    for _ in range(3):
        assert history.sync(after_s=60) == sync.NO_QUEUE
    assert history.slurm.asked == ["listing"] * 3
    for _ in range(4):
        assert history.sync("-q", after_s=60) == sync.NO_QUEUE
        assert history.err == ""
    assert history.slurm.asked == ["listing"] * 3
    assert history.sync(after_s=60) == sync.NO_QUEUE
    assert history.slurm.asked == ["listing"] * 4
    history.slurm.broken = set()
    assert history.sync(after_s=60) == sync.NO_QUEUE
    assert history.sync(after_s=240) == sync.OK
    assert history.memory().slurm_failures == 0
    assert history.sync(after_s=60) == sync.OK


def test_two_failures_and_a_success_are_no_reason_to_pause(history: History) -> None:
    for _ in range(3):
        history.slurm.broken = {"listing"}
        for _ in range(2):
            assert history.sync(after_s=60) == sync.NO_QUEUE
        history.slurm.broken = set()
        assert history.sync(after_s=60) == sync.OK


def test_a_queue_that_cannot_be_read_changes_no_ledger_and_no_memory_of_it(history: History) -> None:
    run = history.slurm.run()
    history.passes(1)
    before = history.part()
    history.slurm.finish(run.job_id)
    history.slurm.broken = {"listing"}
    assert history.sync(after_s=60) == sync.NO_QUEUE
    assert history.part() == before
    assert history.ledger.endings() == {}


def test_the_same_fault_is_said_hourly(history: History) -> None:
    history.ledger.down = {"list": "no connection"}
    said = []
    for minute in range(130):
        assert history.sync("-q", after_s=60) == sync.FAULT
        said += [minute] if "books: no connection" in history.err else []
    assert said == [0, 60, 120]


def test_another_fault_is_said_at_once_and_debug_says_all(history: History) -> None:
    history.ledger.down = {"list": "no connection"}
    history.sync("-q", after_s=60)
    history.ledger.down = {"list": "the token is refused"}
    history.sync("-q", after_s=60)
    assert "books: the token is refused" in history.err
    history.sync("-d", after_s=60)
    assert "books: the token is refused" in history.err


def test_a_fault_of_the_future_is_said(history: History) -> None:
    history.ledger.down = {"list": "no connection"}
    history.sync("-q", after_s=0)
    history.slurm.pass_by(-10_000)  # the clock was set right
    history.sync("-q", after_s=0)
    assert "books: no connection" in history.err


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_it_tells_of_itself(option: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-B", str(PROGRAM), option], capture_output=True, text=True, check=True
    )
    assert "slurm-sync" in answer.stdout or "exit codes:" in answer.stdout
    assert answer.stderr == ""


def test_its_check_writes_nothing_and_names_the_remedy(site: Site) -> None:
    before = site.files()
    site.play("--check")
    assert site.files() == before
    assert {method for method, _, _ in site.double.requests} == {"GET"}
    assert "cc-backend: reachable, version 1.5, knows cluster noctua" in site.out
    assert "FAIL  cc-backend: the token is no JWT; make one with" in site.out
    assert {line[:4] for line in site.out.splitlines()} <= {"ok  ", "FAIL"}
