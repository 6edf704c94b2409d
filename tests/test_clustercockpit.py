"""cc-backend as a ledger: what is sent in each generation's words, and what its answers mean for a run."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from cc_scene import TOKEN, VERSIONS
from cc_server import Server, key
from fake_source import NOW

from backends import cc_client
from backends.base import Backend, Deadline, Facts, Ledger, Outcome, SnapshotTarget, TargetError
from model import HostTopology, RunKey

HOUR_S = 3600
GENERATION = {"1.2.2": "1.2", "1.4.4": "1.3", "1.5.4": "1.5"}
DAY_RULE = "cc-backend holds another run of this job id within a day of it"


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


only_new = pytest.mark.parametrize("server", ["1.5.4"], indirect=True)


def test_it_is_a_ledger_and_takes_node_states(server: Server) -> None:
    ledger = server.ledger
    assert isinstance(ledger, Backend) and isinstance(ledger, Ledger) and isinstance(ledger, SnapshotTarget)
    assert ledger.identity() == f"{server.double.url}#noctua"
    assert not ledger.holds_changes


def test_its_generation_is_found_without_a_side_effect(server: Server) -> None:
    facts = server.ledger.read_facts(None)
    assert facts.version == GENERATION[server.version]
    assert {method for method, _, _ in server.double.requests} == {"GET"}
    assert server.double.jobs == []


def test_its_topology_is_read_from_1_3_on(server: Server) -> None:
    topology = server.ledger.read_facts(None).topology
    if server.version == "1.2.2":
        assert topology is None
        return
    assert topology is not None
    assert list(topology) == ["n2cn[001-006]", "n2gpu[01-02]", "n2dgx01", "n2fpga01", "n2off01"]
    assert topology["n2fpga01"] == HostTopology(((0,), (1,), (2,), (3,)), ())
    assert topology["n2cn[001-006]"].cores[1] == (1, 17)
    assert topology["n2gpu[01-02]"].accelerators[3] == "00000000:31:00.0"


def test_a_configured_version_is_believed() -> None:
    server = Server("1.4.4", version="1.4")
    assert server.ledger.read_facts(None).version == "1.4"
    assert [path for _, path, _ in server.double.requests] == ["/api/clusters/?cluster=noctua"]
    server.close()


def test_a_start_speaks_its_generation_s_words(server: Server) -> None:
    assert server.start(key()) == [Outcome(key(), "done")]
    (_, path, body) = next(r for r in server.double.requests if r[0] == "POST")
    old = {"exclusive": 0}
    new = {"shared": "multi_user", "submitTime": NOW - 9, "requestedMemory": 500}
    assert path == "/api/jobs/start_job/"
    assert body == {
        "jobId": 1,
        "cluster": "noctua",
        "user": "ada",
        "project": "physics",
        "partition": "normal",
        "jobState": "running",
        "startTime": NOW,
        "numNodes": 1,
        "numHwthreads": 2,
        "numAcc": 0,
        "smt": 1,
        "resources": [{"hostname": "n2cn001", "hwthreads": [0, 16]}],
        "metaData": {"jobName": "", "slurmInfo": ""},
        **(new if server.version == "1.5.4" else old),
    }


@pytest.mark.parametrize(("sharing", "exclusive"), [("multi_user", 0), ("none", 1), ("single_user", 2)])
def test_who_else_may_be_on_its_nodes_is_said_in_both_ways(
    server: Server, sharing: str, exclusive: int
) -> None:
    assert server.start(server.make(key(), sharing=sharing)) == [Outcome(key(), "done")]
    (job,) = server.double.jobs
    assert job.get("shared", job.get("exclusive")) == (sharing if "shared" in job else exclusive)


@pytest.mark.parametrize("smt", [0, 1])
def test_both_values_of_smt_are_taken(server: Server, smt: int) -> None:
    start = server.make(key())
    start.body["smt"] = smt
    assert server.start(start) == [Outcome(key(), "done")]


def test_what_the_database_does_not_take_is_refused(server: Server) -> None:
    start = server.make(key())
    start.body["smt"] = 2
    (outcome,) = server.start(start)
    assert outcome.verdict == "refused"
    assert "CHECK constraint failed: smt" in outcome.reason


@pytest.mark.parametrize(
    ("word", "new", "old"),
    [
        ("COMPLETED", "completed", "completed"),
        ("FAILED", "failed", "failed"),
        ("CANCELLED", "cancelled", "cancelled"),
        ("REQUEUED", "cancelled", "cancelled"),
        ("TIMEOUT", "timeout", "timeout"),
        ("PREEMPTED", "preempted", "preempted"),
        ("OUT_OF_MEMORY", "out_of_memory", "out_of_memory"),
        ("NODE_FAIL", "node_fail", "failed"),
        ("BOOT_FAIL", "boot_fail", "failed"),
        ("DEADLINE", "deadline", "failed"),
        ("NO_SUCH_WORD", "failed", "failed"),
    ],
)
def test_an_ending_is_said_in_the_words_that_the_version_knows(
    server: Server, word: str, new: str, old: str
) -> None:
    server.start(key())
    assert server.stop(key(), word) == Outcome(key(), "done")
    (job,) = server.double.jobs
    assert (job["jobState"], job["stopTime"]) == (new if server.version == "1.5.4" else old, NOW + 60)


@pytest.mark.parametrize("after_s", [0, -50])
def test_up_to_1_4_a_run_ends_a_second_after_its_start_at_least(server: Server, after_s: int) -> None:
    server.start(key())
    assert server.stop(key(), after_s=after_s) == Outcome(key(), "done")
    (job,) = server.double.jobs
    assert job["stopTime"] - NOW == (0 if server.version == "1.5.4" else 1)


def test_the_same_start_again_is_done_whether_it_is_listed_yet_or_not(server: Server) -> None:
    server.start(key())
    assert server.start(key()) == [Outcome(key(), "done")]
    server.double.commit_cache()
    assert server.start(key()) == [Outcome(key(), "done")]
    assert len(server.double.jobs) == 1


def test_a_run_within_a_day_of_another_of_its_id_is_refused_for_good(server: Server) -> None:
    server.start(key())
    server.double.commit_cache()
    assert server.start(key(1, NOW + 24 * HOUR_S - 1)) == [Outcome(key(1, NOW + 86399), "final", DAY_RULE)]
    assert server.start(key(1, NOW + 25 * HOUR_S)) == [Outcome(key(1, NOW + 90000), "done")]


def test_a_run_that_it_has_ended_by_itself_is_not_started_for_ever(server: Server) -> None:
    server.start(key())
    server.stop(key(), "FAILED")
    (outcome,) = server.start(key())
    assert outcome == Outcome(key(), "final", "cc-backend holds this run as failed already")


def test_a_stop_that_was_taken_before_is_done(server: Server) -> None:
    server.start(key())
    server.stop(key())
    assert server.stop(key(), "FAILED") == Outcome(key(), "done")
    assert server.double.jobs[0]["jobState"] == "completed"


def test_a_run_that_it_does_not_hold_is_lost(server: Server) -> None:
    server.start(key())
    outcome = server.stop(key(1, NOW - 99))
    assert (outcome.verdict, outcome.key) == ("lost", key(1, NOW - 99))
    assert outcome.reason.startswith("it does not hold this run: ")


def test_an_unknown_host_is_tried_again_within_the_hour(server: Server) -> None:
    (outcome,) = server.start(server.make(key(), host="n9new01"))
    assert (outcome.verdict, outcome.retry_within_s) == ("refused", HOUR_S)
    assert "no subcluster found for cluster noctua and host n9new01" in outcome.reason


def test_one_refused_job_does_not_block_those_behind_it(server: Server) -> None:
    outcomes = server.start(key(1), server.make(key(2), user=""), key(3))
    assert {o.key.job_id: o.verdict for o in outcomes} == {1: "done", 2: "refused", 3: "done"}
    assert {o.reason for o in outcomes} == {"", "'resources' and 'user' should not be empty"}


def test_a_job_that_is_too_large_for_the_proxy_is_refused(server: Server) -> None:
    server.double.fault("POST", status=413, body=b"<html>", headers={"Content-Type": "text/html"})
    assert server.start(key()) == [Outcome(key(), "refused", "413: too large")]


def test_an_unknown_cluster_concerns_the_target(server: Server) -> None:
    server.ledger = server.connect("otus")
    run = RunKey("otus", 1, NOW)
    with pytest.raises(TargetError, match="otus"):
        server.start(server.make(run, Facts(GENERATION[server.version])))
    if server.version != "1.2.2":
        with pytest.raises(TargetError, match="it does not know the cluster 'otus'"):
            server.ledger.read_facts(None)


@pytest.mark.parametrize(("version", "wrong"), [("1.4.4", "1.5"), ("1.5.4", "1.4")])
def test_the_wrong_version_concerns_the_target_and_says_so(version: str, wrong: str) -> None:
    server = Server(version, version=wrong)
    with pytest.raises(TargetError, match=r"another version than it seemed .*; set `version`, or correct it"):
        server.start(server.make(key(), Facts(wrong)))
    server.close()


def test_several_connections_keep_the_order_of_each_job_id(server: Server) -> None:
    runs = [key(job_id, NOW + 25 * HOUR_S * turn) for job_id in range(1, 9) for turn in range(4)]
    random.Random(1).shuffle(runs)
    outcomes = server.start(*runs)
    assert {o.verdict for o in outcomes} == {"done"}
    assert len(outcomes) == 32
    sent = [c for method, _, c in server.double.requests if method == "POST"]
    for job_id in range(1, 9):
        starts = [body["startTime"] for body in sent if body["jobId"] == job_id]
        assert starts == sorted(starts)


def test_a_job_id_s_later_runs_wait_for_the_first_that_got_no_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cc_client, "FIRST_WAIT_S", 0.001)
    runs = [key(1), key(1, NOW + 25 * HOUR_S), key(2)]
    fault = server.double.fault("POST", status=502, times=4, job_id=1)
    outcomes = server.start(*runs)
    assert {o.key: o.verdict for o in outcomes} == {key(1): "failed", key(2): "done"}
    assert fault.hits == 4
    assert {o.verdict for o in server.start(*runs)} == {"done"}


def test_when_the_pass_is_out_of_time_nothing_more_is_sent(server: Server) -> None:
    start = server.make(key())
    server.double.requests.clear()
    with pytest.raises(TargetError, match="the pass' time is over"):
        list(server.ledger.start([start], Deadline(0)))
    assert server.double.requests == []


@only_new
def test_a_run_that_stands_both_in_the_cache_table_and_in_the_list_is_a_refusal(server: Server) -> None:
    server.start(key())
    (twin,) = server.double.cached
    server.double.store.listed.add(dict(twin))
    outcome = server.stop(key())
    assert outcome.verdict == "refused"
    assert "UNIQUE constraint failed: job." in outcome.reason


def test_its_check_tells_version_jobs_and_token(server: Server) -> None:
    texts = [(finding.ok, finding.text) for finding in server.ledger.check()]
    known = {"1.2.2": "1.2", "1.4.4": "1.3 or 1.4", "1.5.4": "1.5"}[server.version]
    assert (True, f"reachable, version {known}, knows cluster noctua") in texts
    assert (True, "0 running jobs listed") in texts
    assert (False, "the token is no JWT") in texts
    assert TOKEN not in repr(texts) + repr(server.ledger.__dict__["_section"])
