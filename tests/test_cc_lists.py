"""What a cc-backend says that it holds: all pages, though jobs arrive meanwhile, and of this cluster only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from cc_scene import VERSIONS
from cc_server import Server, key
from fake_source import NOW

from backends import clustercockpit


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


def test_a_cluster_s_name_may_hold_any_character(server: Server) -> None:
    server.ledger = server.connect("a&state=failed #1")
    assert server.ledger.read_running() == {}
    assert server.double.requests[0][1].startswith(
        "/api/jobs/?cluster=a%26state%3Dfailed%20%231&state=running"
    )


def test_all_pages_are_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustercockpit, "PAGE", 3)
    runs = {key(number, NOW - number) for number in range(1, 10)}
    server.start(*runs)
    server.double.commit_cache()
    assert set(server.ledger.read_running()) == runs


def test_jobs_that_arrive_between_two_pages_hide_no_other(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustercockpit, "PAGE", 3)
    runs = {key(number, NOW - number) for number in range(1, 11)}
    server.start(*runs)
    server.double.commit_cache()
    newer = iter([key(100 + number, NOW + number) for number in range(3)])
    list_jobs = server.double.store.list_jobs

    def arrive(query: str) -> Any:
        answer = list_jobs(query)
        for run in newer:
            server.double.store.start(msgspec.json.encode(server.make(run, facts).body))
            server.double.store.commit_cache()
            break
        return answer

    facts = server.ledger.read_facts(None)
    monkeypatch.setattr(server.double.store, "list_jobs", arrive)
    assert set(server.ledger.read_running()) >= runs


def test_it_lists_what_runs_of_this_cluster_and_nothing_else(server: Server) -> None:
    server.start(key(1), key(2))
    server.double.commit_cache()
    server.stop(key(2))
    assert set(server.ledger.read_running()) == {key(1)}
    assert server.connect("otus").read_running() == {}


def test_of_candidates_those_that_have_ended_are_told(server: Server) -> None:
    runs = [key(number, NOW - 1000 * number) for number in range(1, 6)]
    server.start(*runs)
    server.double.commit_cache()
    for run in runs[:3]:
        server.stop(run, "TIMEOUT")
    asked = [*runs[1:], key(2, NOW), key(77)]
    server.double.requests.clear()
    assert server.ledger.read_ended(asked) == {runs[1], runs[2]}
    assert len(server.double.requests) == 5  # starts that lie apart are not asked for in one range
    assert server.ledger.read_ended([]) == set()
