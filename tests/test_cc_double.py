"""The test double of cc-backend answers as real servers of 1.2.2, 1.4.4 and 1.5.4 did when recorded.

Every exchange of tests/data/cc-backend but those of SKIPPED is sent again, in order, to a double whose clock
stands at the moment of the recording, and status, content types and answer are compared. Not compared: what
VOLATILE and `_comparable` take away. Then the cache table's timer, shifting pages and the faults.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cc_double import CcDouble

DATA = Path(__file__).parent / "data" / "cc-backend"
CLUSTERS = [json.loads((DATA / "cluster.json").read_text())]
VERSIONS = ("1.2.2", "1.4.4", "1.5.4")
SKIPPED = {"swagger": "a page for people, not asked by a client", "version": "no release has such a route"}
LIST = "/api/jobs/?state=running&cluster=noctua&items-per-page={}&page={}"
START, STOP = "/api/jobs/start_job/", "/api/jobs/stop_job/"
NOW = 1_795_234_364.0
# Filled by the archiver, which the double has not, some time after a run was first stopped.
VOLATILE = ("statistics", "footprint", "monitoringStatus")
# Added to every subcluster from the cluster's own metrics; no client of job data looks at it.
DERIVED = ("metricConfig", "footprint")


def ask(
    double: CcDouble, method: str, path: str, body: Any = None, *, token: str | None = "", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request over a connection of its own; a redirect is an answer; the token is the double's own."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token or double.token}"
    data = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
    connection = http.client.HTTPConnection(double.url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, data, {name.replace("_", "-"): v for name, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def job(job_id: int = 1, start: float = NOW - 600, **rest: Any) -> dict[str, Any]:
    """A start's body that every release takes."""
    host = {"hostname": "n2cn001", "hwthreads": [0, 1]}
    names = {"user": "alice", "project": "physics", "cluster": "noctua"}
    return {"jobId": job_id, "startTime": int(start), "numNodes": 1, **names, "resources": [host], **rest}


def stop(job_id: int = 1, start: float = NOW - 600, **rest: Any) -> dict[str, Any]:
    return {"jobId": job_id, "cluster": "noctua", "startTime": int(start), "stopTime": int(NOW), **rest}


def listed(double: CcDouble, items: int = 25, page: int = 1) -> list[int]:
    return [j["jobId"] for j in json.loads(ask(double, "GET", LIST.format(items, page))[2])["jobs"]]


def recorded(version: str) -> list[dict[str, Any]]:
    lines = (DATA / f"exchanges-{version}.jsonl").read_text().splitlines()
    return [exchange for exchange in map(json.loads, lines) if exchange["name"] not in SKIPPED]


def _headers(name: str) -> dict[str, Any]:
    tokens: dict[str, dict[str, Any]] = {"no token": {"token": None}, "bad token": {"token": "abc.def.ghi"}}
    tokens["x-auth-token"] = {"token": None, "X_AUTH_TOKEN": "good"}
    return tokens.get(name, {})


def _comparable(name: str, answer: Any, ended: set[int]) -> Any:
    """The answer without what a double cannot or need not know; `ended` are the jobs stopped before."""
    if name == "no token" and isinstance(answer, str):
        return answer[:15]  # 1.2's login page: that it is a page of HTML is all a client can learn
    if isinstance(answer, dict) and "jobs" in answer:
        return {**answer, "jobs": [_comparable("", job, ended) for job in answer["jobs"]]}
    if isinstance(answer, dict) and "clusters" in answer:
        return [_without_derived(cluster) for cluster in answer["clusters"]]
    if isinstance(answer, dict) and answer.get("jobId") in ended:
        return {key: value for key, value in answer.items() if key not in VOLATILE}
    return answer


def _without_derived(cluster: dict[str, Any]) -> dict[str, Any]:
    subs = [{k: v for k, v in sub.items() if k not in DERIVED} for sub in cluster["subClusters"]]
    return {"name": cluster["name"], "subClusters": subs}


def _read(data: bytes, kind: str | None) -> Any:
    if data[:2] == b"\x1f\x8b":
        return "<bytes: gzip without a Content-Encoding header>"
    return json.loads(data) if kind and kind.startswith("application/json") else data.decode()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_request_is_answered_as_the_real_server_answered_it(version: str) -> None:
    exchanges = recorded(version)
    first = next(e["body"]["startTime"] for e in exchanges if e["name"] == "start")
    ended: set[int] = set()
    with CcDouble(version, CLUSTERS, clock=lambda: first + 600.5, commit_after_s=None) as double:
        for exchange in exchanges:
            name, request = exchange["name"], (exchange["method"], exchange["path"], exchange["body"])
            status, headers, data = ask(double, *request, Accept_Encoding="gzip", **_headers(name))
            kinds = ", ".join(headers.get_all("Content-Type", [])) or None
            got = (status, kinds, _comparable(name, _read(data, kinds), ended))
            expected = _comparable(name, exchange["answer"], ended)
            assert got == (exchange["status"], exchange["type"], expected), f"{version}: {name}"
            if status == 200 and exchange["path"] == STOP:
                ended.add(exchange["body"]["jobId"])
    assert len(exchanges) == 102


@pytest.fixture
def double() -> Iterator[CcDouble]:
    with CcDouble("1.5.4", CLUSTERS, clock=lambda: NOW) as it:
        yield it


def refused(answer: tuple[int, http.client.HTTPMessage, bytes]) -> tuple[int, str]:
    return answer[0], str(json.loads(answer[2])["error"])


def test_a_start_still_in_the_cache_table_comes_back_as_500(double: CcDouble) -> None:
    assert ask(double, "POST", START, job())[0] == 201
    status, error = refused(ask(double, "POST", START, job()))
    assert (status, "UNIQUE constraint failed: job_cache.job_id" in error) == (500, True)


def test_a_start_is_listed_once_the_timer_has_moved_it_and_then_comes_back_as_422() -> None:
    now = [NOW]
    with CcDouble("1.5.4", CLUSTERS, clock=lambda: now[0]) as double:
        ask(double, "POST", START, job())
        now[0] += 119
        assert (listed(double), [j["jobId"] for j in double.cached]) == ([], [1])
        now[0] += 1
        assert (listed(double), double.cached) == ([1], [])
        assert ask(double, "POST", START, job())[0] == 422
        assert ask(double, "POST", START, job(start=NOW - 600 + 86_399))[0] == 422
        assert ask(double, "POST", START, job(start=NOW - 600 + 86_400))[0] == 201


def test_a_job_with_tags_is_listed_at_once(double: CcDouble) -> None:
    ask(double, "POST", START, job(tags=[{"type": "slurm", "name": "test"}]))
    assert listed(double) == [1]


def test_a_stop_moves_the_run_out_of_the_cache_table(double: CcDouble) -> None:
    ask(double, "POST", START, job())
    assert ask(double, "POST", STOP, stop(jobState="timeout"))[0] == 200
    (ended,) = double.jobs
    assert (ended["jobState"], ended["duration"], double.cached) == ("timeout", 600, [])
    assert ask(double, "POST", STOP, stop(jobState="timeout"))[0] == 422


def test_a_run_in_both_tables_cannot_be_stopped_until_the_timer_has_dropped_one(double: CcDouble) -> None:
    ask(double, "POST", START, job())
    ask(double, "POST", START, job(tags=[{"type": "slurm", "name": "test"}]))
    status, error = refused(ask(double, "POST", STOP, stop()))
    assert (status, "UNIQUE constraint failed: job.job_id" in error) == (500, True)
    double.commit_cache()
    assert (ask(double, "POST", STOP, stop())[0], len(double.jobs)) == (200, 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_added_between_two_pages_shift_what_the_second_one_shows(version: str) -> None:
    with CcDouble(version, CLUSTERS, clock=lambda: NOW) as double:
        for job_id in range(1, 5):
            ask(double, "POST", START, job(job_id, NOW - 600 + job_id))
        double.commit_cache()
        assert listed(double, 2, 1) == [4, 3]
        ask(double, "POST", START, job(5, NOW))
        double.commit_cache()
        assert listed(double, 2, 2) == [3, 2]
        ask(double, "POST", STOP, stop(5, NOW, stopTime=int(NOW) + 1))
        ask(double, "POST", STOP, stop(4, NOW - 596))
        assert listed(double, 2, 2) == [1]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"resources": [{"hostname": 5}]},
         "number into Go struct field Resource.resources.hostname of type string"),
        ({"resources": {}}, "object into Go struct field Job.resources of type []*schema.Resource"),
        ({"resources": [7]}, "number into Go struct field Job.resources of type schema.Resource"),
        ({"metaData": {"a": 1}}, "number into Go struct field Job.metaData of type string"),
        ({"numNodes": 3_000_000_000}, "number 3000000000 into Go struct field Job.numNodes of type int32"),
        ({"walltime": 1.5}, "number 1.5 into Go struct field Job.walltime of type int64"),
        ({"smt": True}, "bool into Go struct field Job.smt of type int32"),
        ([], "array into Go value of type schema.Job"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused_in_gos_words(double: CcDouble, body: Any, error: str) -> None:
    told = f"parsing request body failed: json: cannot unmarshal {error}"
    assert refused(ask(double, "POST", START, body)) == (400, told)


def test_names_of_fields_count_in_any_case_and_null_as_left_out(double: CcDouble) -> None:
    assert ask(double, "POST", START, job(JOBSTATE="running", arrayJobId=None))[0] == 201


def test_only_the_first_host_is_looked_up_and_none_if_a_subcluster_is_named(double: CcDouble) -> None:
    two = [{"hostname": "n2gpu01"}, {"hostname": "n9"}]
    assert ask(double, "POST", START, job(1, numNodes=2, resources=two))[0] == 201
    assert ask(double, "POST", START, job(2, subCluster="dgx", resources=[{"hostname": "n9"}]))[0] == 201
    assert [j["subCluster"] for j in double.jobs] == ["gpu", "dgx"]
    assert ask(double, "POST", START, job(3, subCluster="nope"))[0] == 400


@pytest.mark.parametrize(("version", "unknown"), [("1.4.4", b"sql: no rows in result set\n"), ("1.5.4", b"")])
def test_metadata_is_edited_by_database_id(version: str, unknown: bytes) -> None:
    with CcDouble(version, CLUSTERS, clock=lambda: NOW) as double:
        ask(double, "POST", START, job())
        double.commit_cache()
        status, _, data = ask(double, "PATCH", "/api/jobs/edit_meta/1", {"key": "note", "value": "x"})
        assert (status, json.loads(data)["metaData"]) == (200, {"note": "x"})
        status, _, data = ask(double, "PATCH", "/api/jobs/edit_meta/9", {"key": "note", "value": "x"})
        assert (status, data if unknown else b"") == (404, unknown)


def test_what_was_asked_is_kept_for_assertions(double: CcDouble) -> None:
    nodes = {"cluster": "noctua", "nodes": [{"hostname": "n2cn001", "states": ["idle", "drain"]}]}
    ask(double, "POST", "/api/nodestate/", nodes)
    ask(double, "POST", START, "{")
    assert double.requests == [("POST", "/api/nodestate/", nodes), ("POST", START, b"{")]
    assert double.node_states == [nodes]


def test_a_fault_answers_instead_of_the_server_as_often_as_told(double: CcDouble) -> None:
    fault = double.fault("POST /api/jobs/start_job/", status=502, body=b"bad gateway", times=2)
    assert [ask(double, "POST", START, job())[::2] for _ in range(2)] == [(502, b"bad gateway")] * 2
    assert (double.jobs, fault.hits) == ([], 2)
    assert ask(double, "POST", START, job())[0] == 201


def test_a_fault_for_ever_ends_when_it_is_cleared(double: CcDouble) -> None:
    double.fault("GET /api/jobs/", status=503, times=-1, headers={"Retry-After": "1"})
    answers = [ask(double, "GET", LIST.format(1, 1)) for _ in range(3)]
    assert [(status, headers["Retry-After"]) for status, headers, _ in answers] == [(503, "1")] * 3
    double.clear_faults()
    assert ask(double, "GET", LIST.format(1, 1))[0] == 200


def test_a_fault_can_be_meant_for_one_job(double: CcDouble) -> None:
    double.fault("start_job", status=500, job_id=2)
    assert [ask(double, "POST", START, job(n))[0] for n in (1, 2, 3)] == [201, 500, 201]


def test_an_answer_can_be_lost_after_the_request_was_taken(double: CcDouble) -> None:
    double.fault("start_job", status=504, taken=True)
    assert ask(double, "POST", START, job())[0] == 504
    assert [j["jobId"] for j in double.jobs] == [1]


@pytest.mark.parametrize("taken", [False, True])
def test_a_connection_can_be_reset_or_closed_unanswered(double: CcDouble, taken: bool) -> None:
    double.fault("start_job", reset=True, taken=taken)
    with pytest.raises(ConnectionResetError):
        ask(double, "POST", START, job(1))
    double.fault("start_job", taken=taken)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(double, "POST", START, job(2))
    assert len(double.jobs) == 2 * taken


@pytest.mark.parametrize("how", [{"hang_s": 0.2, "taken": True}, {"slow_bytes_s": 0.01}])
def test_an_answer_can_come_late_or_byte_by_byte(double: CcDouble, how: dict[str, Any]) -> None:
    double.fault("start_job", **how)
    start = time.perf_counter()
    assert ask(double, "POST", START, job())[2] == b'{"msg": "success"}\n'
    assert time.perf_counter() - start >= 0.19
    assert len(double.jobs) == 1


def test_a_hanging_request_holds_up_no_other_one_and_ends_with_the_double() -> None:
    with CcDouble("1.5.4", CLUSTERS) as double:
        double.fault("start_job", hang_s=60.0)
        waiting = http.client.HTTPConnection(double.url.removeprefix("http://"))
        waiting.request("POST", START, json.dumps(job()))
        assert ask(double, "GET", LIST.format(1, 1))[0] == 200
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        waiting.getresponse()
    waiting.close()
    assert double.jobs == []


def test_a_thousand_starts_over_one_connection_take_no_more_than_seconds(double: CcDouble) -> None:
    connection = http.client.HTTPConnection(double.url.removeprefix("http://"))
    headers = {"Authorization": f"Bearer {double.token}"}
    for job_id in range(1000):
        connection.request("POST", START, json.dumps(job(job_id)), headers)
        assert connection.getresponse().read() == b'{"msg": "success"}\n'
    connection.close()
    assert len(double.cached) == 1000
