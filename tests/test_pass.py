"""Whole passes over recordings of four releases, from the command line to what stands in both targets."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cc_scene import TOKEN
from recorded_site import Site, active, listed
from recordings import RELEASES, Recorded

import sync

pytest_plugins = ["site_fixtures"]

CARDS = [f"00000000:{number}1:00.0" for number in range(8)]
ALL_NAMED = dict.fromkeys(("n2gpu", "n2dgx", "n2fpga"), CARDS)  # so that no accelerator is without an id


@pytest.mark.parametrize("version", ["1.2.2", "1.4.4", "1.5.4"])
@pytest.mark.parametrize("release", RELEASES)
def test_both_targets_hold_what_slurm_said(tmp_path: Path, release: str, version: str) -> None:
    with Site(tmp_path, Recorded(release, "t0"), version) as site:
        assert site.play() == sync.OK
        assert site.in_cc(True) == site.archived(True) == active(site.recorded)
        before = site.in_cc(True) | site.in_cc(False)
        site.double.commit_cache()
        site.show("t1")
        assert site.play() == sync.OK
        assert site.in_cc(True) == site.archived(True) == active(site.recorded)
        assert site.in_cc(False) == site.archived(False) > before - active(site.recorded)
        assert site.in_cc(False) & listed(site.recorded, "COMPLETING", "PENDING") == set()


@pytest.mark.parametrize("release", RELEASES)
def test_a_second_pass_writes_no_job(tmp_path: Path, release: str) -> None:
    with Site(tmp_path, Recorded(release, "t0")) as site:
        for moment in ("t0", "t1"):
            site.show(moment)
            site.play()
            posts, archive = site.posts(), site.archive.read_bytes()
            for _ in range(3):
                assert site.play() == sync.OK
                site.double.commit_cache()
            assert (site.posts(), site.archive.read_bytes()) == (posts, archive)


@pytest.mark.parametrize("options", [(), ("--json",), ("--debug",), ("--json", "-j", "9")])
def test_a_dry_run_writes_nothing_anywhere(site: Site, options: tuple[str, ...]) -> None:
    before = site.files()
    assert site.play("--dry-run", *options) == sync.OK
    assert site.files() == before
    assert not site.state.exists()
    assert not site.archive.exists()
    assert {method for method, _, _ in site.double.requests} == {"GET"}


def test_a_dry_run_leaves_what_stands_there_alone(site: Site) -> None:
    site.play()
    site.show("t1")
    site.document["slurm"]["recording"] = str(site.recorded.folder)
    site.write_config()
    before = site.files()
    assert site.play("--dry-run") == sync.OK
    assert site.files() == before
    assert "8 start, " in site.out


def test_the_plan_as_json_has_the_documented_shape(site: Site) -> None:
    site.play("--limit", "6")
    site.double.commit_cache()
    site.show("t1")
    assert site.play("--dry-run", "--json") == sync.OK
    plan = json.loads(site.out)
    assert {"cluster", "now", "backends", "warnings"} <= set(plan)
    assert (plan["cluster"], plan["now"]) == ("noctua", 1795175635)
    assert list(plan["backends"]) == ["cc-backend", "sqlite"]
    for ledger in plan["backends"].values():
        assert list(ledger) == ["starts", "changes", "stops", "held", "refused", "unsafe", "error"]
        assert (ledger["unsafe"], ledger["error"], ledger["held"], ledger["refused"]) == (None, None, [], [])
        assert {"jobId": 1, "startTime": 1795175514, "stopTime": 1795175546, "jobState": "cancelled",
                "evidence": "sacct"} in ledger["stops"]  # fmt: skip
    assert all(isinstance(warning, str) for warning in plan["warnings"])


def test_the_plan_for_cc_backend_is_the_very_body_that_is_sent(site: Site) -> None:
    site.document["environment"] = "full"
    site.play("--dry-run", "--json")
    planned = {job["jobId"]: job for job in json.loads(site.out)["backends"]["cc-backend"]["starts"]}
    site.play()
    sent = {c["jobId"]: c for _, path, c in site.double.requests if "start_job" in path}
    assert set(planned) == set(sent)
    for job_id, body in sent.items():
        hidden = {name: body["metaData"].get(name) for name in ("jobScript", "environment")}
        shown = {name: f"<{len(text.encode())} bytes>" for name, text in hidden.items() if text is not None}
        assert planned[job_id] == {**body, "metaData": {**body["metaData"], **shown}}
    assert sum("jobScript" in body["metaData"] for body in sent.values()) > 10


def test_the_plan_as_a_table_names_what_would_be_done(site: Site) -> None:
    site.play("--dry-run")
    assert "cc-backend: 19 start, 1 stop" in site.out
    assert "sqlite: 19 start, 1 stop" in site.out
    assert site.posts() == 0


def test_the_archive_keeps_what_cc_backend_has_no_place_for(site: Site) -> None:
    site.play()
    with closing(sqlite3.connect(site.archive)) as db:
        query = "SELECT state FROM runs WHERE job_id = 25"
        assert db.execute(query).fetchone() == ("suspended",)
        site.show("t1")
        site.play()
        assert db.execute(query).fetchone() == ("running",)


@pytest.mark.parametrize(("named", "found"), [("1", {1}), ("9_1", {31}), ("9", {30, 31, 32}), ("10+1", {11})])
def test_one_test_sync_touches_the_named_jobs_only_and_moves_no_mark(
    site: Site, named: str, found: set[int]
) -> None:
    assert site.play("--jobid", named) == sync.OK
    assert (
        {job_id for job_id, _ in site.in_cc(True)} == {job_id for job_id, _ in site.archived(True)} == found
    )
    state = json.loads((site.state / "noctua.json").read_bytes())
    assert [part["mark"] for part in state["backends"].values()] == [None, None]
    assert site.double.node_states == []


def test_quiet_prints_nothing_in_a_healthy_pass(site: Site) -> None:
    site.document["accelerators"] = ALL_NAMED
    for moment in ("t0", "t0", "t1", "t1"):
        site.show(moment)
        assert site.play("--quiet") == sync.OK
        assert (site.out, site.err) == ("", "")


def test_a_pass_says_one_line_a_change_and_one_in_the_end(site: Site) -> None:
    site.document["accelerators"] = ALL_NAMED
    site.play()
    lines = site.err.splitlines()
    assert len(lines) == 2 * (19 + 1) + 1
    assert (
        lines[-1]
        .split("INFO    ")[1]
        .startswith(
            "noctua: 30 jobs listed, 19 active · 0 left out, 1 opted out · "
            "cc-backend: 19 started, 1 stopped, 11 node states · sqlite: 19 started, 1 stopped · "
        )
    )
    assert site.out == ""


# What must never be said


@pytest.mark.parametrize(
    "options", [(), ("--debug",), ("--dry-run",), ("--dry-run", "--json"), ("--check",), ("--show-config",)]
)
def test_no_token_no_script_and_no_environment_is_in_any_output(site: Site, options: tuple[str, ...]) -> None:
    site.document["environment"] = "full"
    site.play(*options)
    said = site.out + site.err
    assert said
    for text in (TOKEN, "sleep 900", "#!/bin", "HOME=/home", "SLURM_RLIMIT"):
        assert text not in said
    for name, (_, content) in site.files().items():
        assert name in ("token", "jobs.db") or TOKEN.encode() not in content
        assert name == "jobs.db" or b"#!/bin" not in content


@pytest.mark.parametrize("options", [(), ("--debug",), ("--dry-run",), ("--dry-run", "--json"), ("--check",)])
def test_what_users_write_does_not_reach_the_terminal_raw(
    site: Site, tmp_path: Path, options: tuple[str, ...]
) -> None:
    hostile = "\x1b[2J\x9b31m\x07\r\u202e[red]</table>\n2026-11-21 ERROR forged line"
    folder = tmp_path / "hostile"
    folder.mkdir()
    for file in Recorded("24.11", "t0").folder.iterdir():
        if file.is_file():
            folder.joinpath(file.name).write_bytes(file.read_bytes())
    for name in ("squeue.json", "sacct.json"):
        answer: Any = json.loads((folder / name).read_bytes())
        for job in answer["jobs"]:
            job["name"] = job["name"] + hostile
        (folder / name).write_text(json.dumps(answer))
    site.document["slurm"] = {"recording": str(folder)}
    assert site.play(*options) in (sync.OK, sync.FAULT)
    said = site.out + site.err
    assert [c for c in said if not c.isprintable() and c != "\n"] == []
    assert not any(line.startswith("2026-11-21 ERROR") for line in said.splitlines())
    if not options:
        (job,) = (job for job in site.double.jobs if job["jobId"] == 1)
        assert job["metaData"]["jobName"] == "share1" + hostile
