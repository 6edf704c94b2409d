"""A recording asked instead of a cluster: the same questions, the same answers, its own moment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from recordings import ALL, CLUSTER, RELEASES, Recorded

from slurm import queue
from slurm.recording import Recording
from slurm.source import SourceError

MOMENT = 1_795_231_884


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a recording, to be damaged."""
    return Path(shutil.copytree(Recorded("25.11", "t0").folder, tmp_path / "recording"))


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_a_recording_answers_every_question(recorded: Recorded) -> None:
    source = Recording(recorded.folder, CLUSTER)
    listing = source.read_listing()
    assert listing.jobs == queue.parse_listing_json(recorded.read("squeue.json"), CLUSTER)
    assert (source.now(), listing.read_at) == (recorded.now, recorded.now)
    assert {node.name: node for node in source.read_nodes()} == recorded.nodes()
    assert (source.has_accounting, source.read_backlog()) == (True, 0)
    active = [job.key for job in listing.jobs if job.state in ("RUNNING", "SUSPENDED")]
    runs = source.read_details([key.job_id for key in active], recorded.nodes())
    assert [run.key for run in runs] == active


@pytest.mark.parametrize("release", RELEASES)
def test_a_window_has_what_ended_within_it_both_ends_included(release: str) -> None:
    source, now = Recording(Recorded(release, "t1").folder, CLUSTER), Recorded(release, "t1").now
    told = source.read_window(0, now + 3600)
    ends = sorted({record.end_time for record in told})
    assert {record.run.state for record in told} >= {
        "CANCELLED",
        "REQUEUED",
        "NODE_FAIL",
        "COMPLETED",
        "FAILED",
    }
    assert {r.end_time for r in source.read_window(ends[1], ends[-2])} == set(ends[1:-1])
    assert source.read_window(0, ends[0] - 1) == ()


def test_jobs_are_told_with_all_of_their_runs_that_overlap_the_span() -> None:
    source = Recording(Recorded("25.11", "t1").folder, CLUSTER)
    told = source.read_accounted([2, 3, 13], 0, MOMENT + 3600)
    assert [(r.key.job_id, r.run.state) for r in told] == [(2, "REQUEUED"), (3, "RUNNING")]
    assert [r.key.job_id for r in source.read_accounted([2, 3], MOMENT + 1, MOMENT + 3600)] == [3]
    assert source.read_accounted([2, 3], 0, 1000) == ()


def test_a_recording_without_accounting_has_none(folder: Path) -> None:
    (folder / "sacct.json").unlink()
    source = Recording(folder, CLUSTER)
    assert source.has_accounting is False
    with pytest.raises(SourceError, match=r"sacct\.json: No such file or directory$"):
        source.read_window(0, MOMENT)


def test_nodes_are_taken_from_the_file_that_holds_them(folder: Path) -> None:
    shutil.copy(Recorded("22.05", "t0").folder / "sinfo.json", folder / "sinfo.json")
    (folder / "scontrol_node.json").write_bytes(b"")
    assert len(Recording(folder, CLUSTER).read_nodes()) == 11
    (folder / "scontrol_node.json").unlink()
    assert len(Recording(folder, CLUSTER).read_nodes()) == 11


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "neither scontrol_node.json nor sinfo.json is there"),
        (b"", "neither scontrol_node.json nor sinfo.json is there"),
        (b"{", "scontrol_node.json: not a whole JSON answer"),
        (b"{}", "scontrol_node.json: the answer has no list of records"),
    ],
)
def test_a_recording_without_nodes_says_so(folder: Path, content: bytes | None, problem: str) -> None:
    (folder / "sinfo.json").unlink()
    (folder / "scontrol_node.json").unlink()
    if content is not None:
        (folder / "scontrol_node.json").write_bytes(content)
    with pytest.raises(SourceError, match=problem):
        Recording(folder, CLUSTER).read_nodes()


@pytest.mark.parametrize("text", [b"", b"yesterday", b"-5", b"\xff", "٣".encode(), None])
def test_a_recording_without_its_moment_is_an_error(folder: Path, text: bytes | None) -> None:
    (folder / "epoch.txt").unlink()
    if text is not None:
        (folder / "epoch.txt").write_bytes(text)
    with pytest.raises(SourceError, match=r"epoch\.txt"):
        Recording(folder, CLUSTER).now()


def test_without_cpu_ids_a_recording_of_21_08_has_hosts_only(tmp_path: Path) -> None:
    recorded = Recorded("21.08", "t0")
    folder = Path(shutil.copytree(recorded.folder, tmp_path / "recording"))
    (folder / "scontrol_job_d.txt").unlink()
    runs = Recording(folder, CLUSTER).read_details([3, 8], recorded.nodes())
    assert [run.hosts for run in runs] == [("n2cn001",), ("n2dgx01", "n2gpu02")]
    assert all(allocation.cores is None for run in runs for allocation in run.allocations)


READERS: dict[str, Callable[[Recording], object]] = {
    "squeue.json": lambda source: (source.read_listing(), source.read_details([3], {})),
    "sacct.json": lambda source: source.read_window(0, MOMENT),
    "scontrol_node.json": lambda source: source.read_nodes(),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", ["cut", "missing", "folder", "of several foreign clusters"])
def test_a_damaged_recording_is_no_answer(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    (folder / "sinfo.json").unlink()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "folder":
        path.mkdir()
    elif damage == "of several foreign clusters":
        path.write_bytes(b'{"jobs": [{"cluster": "a"}, {"cluster": "b"}]}')
    with pytest.raises(SourceError):
        READERS[name](Recording(folder, CLUSTER))
