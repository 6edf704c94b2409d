"""A cluster asked by its commands, for which stand-ins answer: what they are asked, what is no answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from recordings import ALL, CLUSTER, RELEASES, Recorded, listing_text, refusal
from stand_ins import NOW, Cluster, recorded_cluster

from model import Node
from slurm import accounting, accounting_json, details, queue
from slurm.commands import BATCH, SlurmCommands, batches
from slurm.recording import Recording
from slurm.source import Listing, SourceError

NO_NODES: dict[str, Node] = {}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_the_listing_is_that_of_the_recording(tmp_path: Path, recorded: Recorded) -> None:
    cluster = Cluster(tmp_path)
    cluster.answers("squeue", listing_text(recorded.json("squeue.json")["jobs"], "@SEP@"))
    jobs = queue.parse_listing_json(recorded.read("squeue.json"), CLUSTER)
    assert cluster.source().read_listing() == Listing(jobs, NOW)
    (call,) = cluster.calls()
    separator = call[-1].rpartition(":")[2]
    assert call == ["squeue", *queue.listing_arguments(separator)]


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_details_are_those_of_the_recording(tmp_path: Path, recorded: Recorded) -> None:
    cluster, nodes = recorded_cluster(tmp_path, recorded), recorded.nodes()
    cluster.answers("scontrol", recorded.read("scontrol_job_d.txt"))
    runs = cluster.source().read_details(range(1, 40), nodes)
    assert runs == Recording(recorded.folder, CLUSTER).read_details(range(1, 40), nodes)
    asked = cluster.calls("scontrol")
    assert asked == (
        [["scontrol", "-a", "--local", "show", "job", "-d"]] if recorded.release == "21.08" else []
    )


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_nodes_are_asked_from_the_command_that_has_them_as_json(tmp_path: Path, recorded: Recorded) -> None:
    cluster = recorded_cluster(tmp_path, recorded)
    assert {node.name: node for node in cluster.source().read_nodes()} == recorded.nodes()
    old = ["sinfo", "-a", "--local", "--json"]
    assert cluster.calls() == [
        old
        if recorded.release in ("21.08", "22.05")
        else ["scontrol", "-a", "--local", "show", "nodes", "--json"]
    ]


@pytest.mark.parametrize("recorded", [r for r in ALL if r.release != "21.08"], ids=str)
def test_accounting_is_that_of_the_recording(tmp_path: Path, recorded: Recorded) -> None:
    cluster = recorded_cluster(tmp_path, recorded)
    told = accounting_json.parse_json(recorded.read("sacct.json"), CLUSTER)
    assert cluster.source().read_window(NOW - 60, NOW) == told
    assert cluster.source().read_accounted([3, 5], NOW - 60, NOW) == told
    separators = [call[7].removeprefix("--delimiter=") for call in cluster.calls()]
    assert [call[1:] for call in cluster.calls()] == [
        accounting.window_arguments(separators[0], NOW - 60, NOW),
        accounting.ids_arguments(separators[1], [3, 5], NOW - 60, NOW),
    ]
    assert separators[0] != separators[1]


@pytest.mark.parametrize("release", RELEASES)
def test_the_backlog_of_accounting_is_told_by_sdiag(tmp_path: Path, release: str) -> None:
    cluster = recorded_cluster(tmp_path, Recorded(release, "t0"))
    assert cluster.source().read_backlog() == 0
    answer = Recorded(release, "t0").read("sdiag.txt")
    cluster.answers("sdiag", answer.replace(b"DBD Agent queue size: 0", b"DBD Agent queue size: 1234"))
    assert cluster.source().read_backlog() == 1234


def test_an_sdiag_without_a_backlog_is_an_error(cluster: Cluster) -> None:
    cluster.answers("sdiag", b"Server thread count: 3\n")
    with pytest.raises(SourceError, match="no size of slurmdbd's queue in its answer"):
        cluster.source().read_backlog()


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("slurm 24.05.1", (24, 5)),
        ("slurm-wlm 22.05.8", (22, 5)),
        ("slurm 26.05.0-0rc1", (26, 5)),
        ("slurm 21.08.8-2", (21, 8)),
    ],
)
def test_the_release_is_that_of_squeue_and_asked_once(
    tmp_path: Path, version: str, release: tuple[int, int]
) -> None:
    source = Cluster(tmp_path, version).source()
    assert (source.version, source.version) == (release, release)
    assert (tmp_path / "calls").read_text("utf-8") == "squeue\x1f--version\x1f\n"


def test_a_version_without_a_release_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="--version: no release in its answer"):
        _ = Cluster(tmp_path, "slurm unknown").source().version


@pytest.mark.parametrize("version", ["slurm 24.05.0", "slurm 25.11.7"])
def test_from_24_05_on_only_the_wanted_jobs_are_asked_for_in_batches(tmp_path: Path, version: str) -> None:
    cluster = Cluster(tmp_path, version)
    cluster.answers("squeue", b'{"jobs": [], "errors": []}')
    assert cluster.source().read_details(range(1, 2 * BATCH + 2), NO_NODES) == ()
    common = ["squeue", "-a", "-t", "all", "--local", "--json", "-j"]
    ids = [",".join(map(str, found)) for found in (range(1, 501), range(501, 1001), [1001])]
    assert cluster.calls() == [[*common, text] for text in ids]


@pytest.mark.parametrize("version", ["slurm-wlm 22.05.8", "slurm 23.11.11"])
def test_before_24_05_one_full_listing_serves_for_all(tmp_path: Path, version: str) -> None:
    cluster = Cluster(tmp_path, version)
    cluster.answers("squeue", Recorded("22.05", "t0").read("squeue.json"))
    runs = cluster.source().read_details([3, 5, *range(1000, 3000)], Recorded("22.05", "t0").nodes())
    assert [run.key.job_id for run in runs] == [3, 5]
    assert cluster.calls() == [["squeue", "-a", "-t", "all", "--local", "--json"]]


def test_accounting_is_asked_in_batches(cluster: Cluster) -> None:
    assert cluster.source().read_accounted(range(1, BATCH + 2), 1, 2) == ()
    ids = [call[call.index("-j") + 1] for call in cluster.calls()]
    assert ids == [",".join(map(str, range(1, BATCH + 1))), str(BATCH + 1)]
    assert list(batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]


def test_a_single_job_that_is_purged_is_no_error(cluster: Cluster) -> None:
    cluster.answers("squeue", b"", "slurm_load_jobs error: Invalid job id specified\n", 1)
    assert cluster.source().read_details([99], NO_NODES) == ()


def test_no_accounting_is_an_error_where_it_is_asked(cluster: Cluster) -> None:
    source = cluster.source(sacct=False)
    assert source.has_accounting is False
    for question in ("window", "accounted"):
        with pytest.raises(SourceError, match=r"there is no accounting \(slurm\.sacct is false\)"):
            ask(source, question)
    assert cluster.calls() == []


def test_nothing_of_the_callers_environment_reaches_a_command(tmp_path: Path) -> None:
    cluster = recorded_cluster(tmp_path, Recorded("24.11", "t0"))
    caller = {
        **{"SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "PD", "SACCT_FORMAT": "jobid", "SLURM_CLUSTERS": "alpha"},
        **{"SLURM_TIME_FORMAT": "x", "SLURM_JSON": "pretty", "LANG": "de_DE", "SLURM_CONF": "/slurm.conf"},
    }
    source = cluster.source(caller=caller)
    common = {"LC_ALL=C.UTF-8", "SLURM_CONF=/slurm.conf"}
    source.read_details([3], Recorded("24.11", "t0").nodes())
    assert cluster.environment("squeue") == common | {"SLURM_JSON=compact"}
    source.read_nodes()
    assert cluster.environment("scontrol") == common | {"SLURM_JSON=compact"}
    source.read_window(1, 2)
    assert cluster.environment("sacct") == common | {"SLURM_TIME_FORMAT=%s"}
    source.read_backlog()
    assert cluster.environment("sdiag") == common
    cluster.answers("squeue", listing_text([], "@SEP@"))
    source.read_listing()
    assert cluster.environment("squeue") == common | {"SLURM_TIME_FORMAT=%s", "SLURM_BITSTR_LEN=0"}


@pytest.mark.parametrize(
    ("ping", "host"),
    [
        (b"Slurmctld(primary) at ctl is UP\n", "ctl"),
        (b"Slurmctld(primary) at ctl is DOWN\nSlurmctld(backup) at ctl2 is UP\n", "ctl2"),
        (b"Slurmctld(primary) at ctl is DOWN\n", None),
        (b"", None),
    ],
)
def test_the_controller_that_is_up_is_the_active_one(cluster: Cluster, ping: bytes, host: str | None) -> None:
    cluster.answers("scontrol", ping, code=0 if host else 1)
    assert cluster.source().read_active_controller() == host
    assert cluster.calls() == [["scontrol", "ping"]]


def test_the_moment_is_that_of_the_clock(cluster: Cluster) -> None:
    assert cluster.source().now() == NOW


ASKED = ["listing", "details", "window", "accounted", "nodes", "backlog"]


def ask(source: SlurmCommands, question: str) -> object:
    answers = {
        "listing": source.read_listing,
        "details": lambda: source.read_details([3], NO_NODES),
        "window": lambda: source.read_window(1, 2),
        "accounted": lambda: source.read_accounted([3], 1, 2),
        "nodes": source.read_nodes,
        "backlog": source.read_backlog,
    }
    return answers[question]()


def all_answer(cluster: Cluster, stdout: bytes, stderr: str, code: int) -> None:
    for name in ("squeue", "sacct", "scontrol", "sinfo", "sdiag"):
        cluster.answers(name, stdout, stderr, code)


@pytest.mark.parametrize("question", ASKED)
def test_an_exit_code_is_an_error_with_what_was_said(cluster: Cluster, question: str) -> None:
    all_answer(cluster, b'{"jobs": [], "nodes": []}', "error: \x1b[31mno route\nsecond\n", 1)
    with pytest.raises(SourceError, match=r": exit code 1: error: \?\[31mno route; second$"):
        ask(cluster.source(), question)


@pytest.mark.parametrize("question", [q for q in ASKED if q not in ("window", "accounted")])
def test_an_empty_answer_with_exit_code_0_is_an_error(cluster: Cluster, question: str) -> None:
    all_answer(cluster, b"", "squeue: error: something", 0)
    with pytest.raises(SourceError):
        ask(cluster.source(), question)


@pytest.mark.parametrize("question", ["details", "nodes"])
def test_an_empty_json_answer_is_told_with_what_was_said(cluster: Cluster, question: str) -> None:
    all_answer(cluster, b"", "plugin not found", 0)
    with pytest.raises(SourceError, match=r": an empty answer: plugin not found$"):
        ask(cluster.source(), question)


@pytest.mark.parametrize("question", ASKED)
def test_half_an_answer_with_exit_code_0_is_an_error(tmp_path: Path, question: str) -> None:
    recorded = Recorded("24.11", "t0")
    cluster = recorded_cluster(tmp_path, recorded)
    if question == "listing":
        cluster.answers("squeue", listing_text(recorded.json("squeue.json")["jobs"], "@SEP@"))
    ask(cluster.source(), question)
    for name in ("squeue", "sacct", "scontrol", "sdiag"):
        whole = (tmp_path / f"{name}.stdout").read_bytes()
        cluster.answers(name, whole[: 200 if name == "sdiag" else len(whole) // 2])
    with pytest.raises(SourceError):
        ask(cluster.source(), question)


@pytest.mark.parametrize("question", ["details", "nodes"])
@pytest.mark.parametrize("release", ["21.08", "22.05"])
def test_errors_with_exit_code_0_are_an_error(tmp_path: Path, release: str, question: str) -> None:
    cluster = Cluster(tmp_path, Recorded(release, "t0").read("version.txt").decode())
    for name in ("squeue", "sinfo"):
        cluster.answers(name, *refusal(release, "slurmctld", name))
    with pytest.raises(SourceError, match="Unspecified error"):
        ask(cluster.source(), question)


@pytest.mark.parametrize("release", RELEASES)
def test_without_slurmctld_or_slurmdbd_there_is_no_listing_and_no_accounting(
    tmp_path: Path, release: str
) -> None:
    cluster = Cluster(tmp_path)
    cluster.answers("squeue", *refusal(release, "slurmctld", "squeue_text"))
    cluster.answers("sacct", *refusal(release, "slurmdbd", "sacct"))
    with pytest.raises(SourceError, match=r"squeue: exit code 1: slurm_load_jobs error: Unable to contact"):
        ask(cluster.source(), "listing")
    for question in ("window", "accounted"):
        with pytest.raises(SourceError, match=r"sacct: exit code 1: .*Connection refused"):
            ask(cluster.source(), question)


@pytest.mark.timeout(20)
def test_a_command_that_hangs_is_an_error_in_time(cluster: Cluster) -> None:
    (cluster.folder / "squeue").write_text("#!/bin/sh\ntrap '' TERM\nsleep 60 &\nwait\n", "utf-8")
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"squeue: no answer within 0\.2 s$"):
        cluster.source(timeout_s=0.2).read_listing()
    assert time.monotonic() - began < 5


def test_doubtful_cores_that_cannot_be_settled_are_an_error(tmp_path: Path) -> None:
    recorded = Recorded("21.08", "t0")
    cluster = recorded_cluster(tmp_path, recorded)
    cluster.answers("scontrol", b"", "slurm_load_jobs error: busy", 1)
    with pytest.raises(SourceError, match="scontrol: exit code 1: slurm_load_jobs error: busy"):
        cluster.source().read_details([3], recorded.nodes())


def test_noise_on_stderr_with_exit_code_0_is_harmless(tmp_path: Path) -> None:
    recorded = Recorded("21.08", "t0")
    cluster = recorded_cluster(tmp_path, recorded)
    cluster.answers(
        "squeue", recorded.read("squeue.json"), "squeue: error: dump_job_info: array size wrong\n"
    )
    told = details.parse_details(recorded.read("squeue.json"), CLUSTER, [3], NO_NODES)
    assert cluster.source().read_details([3], NO_NODES) == told
