"""contrib/example_backend.py, plugged in as a site does it: a copy of the file beside the configuration."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RECORDINGS = ROOT / "tests" / "data" / "slurm-25.11"


class Site:
    """A configuration with the example and the job archive beside each other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.jobs = folder, folder / "jobs"
        shutil.copy(ROOT / "contrib" / "example_backend.py", folder)
        self.jobs.mkdir()

    def sync(self, moment: str, *options: str) -> subprocess.CompletedProcess[str]:
        config = self.folder / "config.json"
        document = {
            "clustername": "noctua",
            "state_dir": "state",
            "slurm": {"recording": str(RECORDINGS / moment)},
            "job-folder": {"class": "example_backend:JobFolder", "path": "jobs"},
            "sqlite": {"path": str(self.folder / "jobs.db")},
        }
        config.write_text(json.dumps(document))
        command = [sys.executable, "-B", str(ROOT / "sync.py"), "-c", str(config), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def read_runs(self, name: str) -> dict[tuple[int, int], dict[str, Any]]:
        bodies = [json.loads(path.read_bytes()) for path in (self.jobs / name).glob("*.json")]
        return {(body["jobId"], body["startTime"]): body for body in bodies}

    def read_archive(self, where: str) -> dict[tuple[int, int], dict[str, Any]]:
        with closing(sqlite3.connect(self.folder / "jobs.db")) as archive:
            archive.row_factory = sqlite3.Row
            rows = [dict(row) for row in archive.execute(f"select * from runs where {where}")]  # noqa: S608
        return {(row["job_id"], row["start_time"]): row for row in rows}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_example_holds_the_runs_that_the_archive_holds(site: Site) -> None:
    for moment in ("t0", "t1"):
        done = site.sync(moment)
        assert done.returncode == 0, done.stderr
        running, ended = site.read_runs("running"), site.read_runs("ended")
        assert running.keys() == site.read_archive("end_time is null").keys()
        assert {key: (body["jobState"], body["stopTime"]) for key, body in ended.items()} == {
            key: (row["state"], row["end_time"]) for key, row in site.read_archive("end_time > 0").items()
        }
    assert running
    assert ended


def test_a_second_pass_with_nothing_new_has_nothing_to_do(site: Site) -> None:
    site.sync("t1")
    before = {path: path.stat().st_mtime_ns for path in site.jobs.rglob("*-*.json")}
    done = site.sync("t1")
    assert "job-folder: nothing to do" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in site.jobs.rglob("*-*.json")} == before


def test_the_present_moment_stands_in_one_file(site: Site) -> None:
    site.sync("t0")
    now = json.loads((site.jobs / "now.json").read_bytes())
    epoch = int((RECORDINGS / "t0" / "epoch.txt").read_text())
    assert (now["time"], now["running"]) == (epoch, len(site.read_runs("running")) + 1)  # one opted out
    assert now["pending"] > 0
    assert now["nodes"] == 11


def test_a_folder_that_is_not_there_is_a_fault_of_this_target_alone(site: Site) -> None:
    site.jobs.rmdir()
    done = site.sync("t0")
    assert done.returncode == 1
    assert f"job-folder: {site.jobs}: No such file or directory" in done.stderr
    assert site.read_archive("end_time is null")
    assert not site.jobs.exists()


def test_a_file_that_holds_no_run_is_left_alone_and_one_that_is_broken_refuses_its_run_only(
    site: Site,
) -> None:
    site.sync("t0")
    (site.jobs / "running" / "notes.json").write_text("mine")
    broken = next(path for path in (site.jobs / "running").glob("1-*.json"))
    broken.write_text("{")
    done = site.sync("t1")
    assert done.returncode == 1
    assert f"refused: {broken}" in done.stderr
    assert len(site.read_runs("ended")) == len(site.read_archive("end_time > 0")) - 1
    assert (site.jobs / "running" / "notes.json").read_text() == "mine"


def test_scripts_are_for_their_owner_only(site: Site) -> None:
    site.sync("t1")
    assert {(site.jobs / name).stat().st_mode & 0o777 for name in ("running", "ended")} == {0o700}


def test_check_and_dry_run_write_nothing(site: Site) -> None:
    for option in ("--check", "--dry-run"):
        done = site.sync("t0", option)
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(site.jobs.iterdir()) == []
