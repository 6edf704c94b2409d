"""Running jobs in corrupted answers: whatever stands there, nothing crashes and no id is invented."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from recordings import ABSURD, CLUSTER, RELEASES, Recorded, told_by_scontrol

from model import Node
from slurm import cpu_ids, details

ANY_ID = range(1, 100)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Each malformed record is a warning; thousands of them are of no interest here."""
    caplog.set_level(logging.ERROR)


SAMPLE = (8, 12)


class Corrupted:
    """A recording with one job of it changed: parsed, settled and held against the truth."""

    def __init__(self, release: str, job_id: int) -> None:
        recorded = Recorded(release, "t0")
        self.nodes: dict[str, Node] = recorded.nodes()
        self.truth = {a.host: a for a in told_by_scontrol(recorded)[job_id]}
        document = recorded.json("squeue.json")
        self.job = next(job for job in document["jobs"] if job["job_id"] == job_id)
        self.other = next(job for job in document["jobs"] if job["job_id"] == 4)

    def __call__(self, job: dict[str, Any]) -> None:
        """The other job is unharmed; of this one, no core and no index is told that it does not hold."""
        answer = json.dumps({"jobs": [job, self.other], "errors": []}).encode()
        runs = details.parse_details(answer, CLUSTER, ANY_ID, self.nodes)
        assert runs[-1].key.job_id == 4
        held = {(d.name, i) for a in self.truth.values() for d in a.devices for i in d.indexes or ()}
        for run in runs[:-1]:
            for allocation in run.allocations:
                cores = self.truth[allocation.host].cores or () if allocation.host in self.truth else ()
                assert set(allocation.cores or ()) <= set(cores)
                assert {(d.name, i) for d in allocation.devices for i in d.indexes or ()} <= held
        for run in cpu_ids.settle_cores(runs[:-1], self.nodes, dict):
            told = {a.host: a.cores for a in run.allocations if a.cores is not None}
            assert told in ({}, {host: a.cores for host, a in self.truth.items()})


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("job_id", SAMPLE)
def test_no_absurd_or_missing_field_crashes_or_invents_an_id(release: str, job_id: int) -> None:
    check = Corrupted(release, job_id)
    for name in details.Detail.__struct_fields__:
        check({key: value for key, value in check.job.items() if key != name})
        for value in ABSURD:
            check(check.job | {name: value})


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a value; of a long list only to the first five, all are alike."""
    listed = range(min(len(value), 5)) if isinstance(value, list) else ()
    for key in value if isinstance(value, dict) else listed:
        yield (*path, key)
        yield from _paths(value[key], (*path, key))


def _changed(job: dict[str, Any], path: tuple[Any, ...], *values: object) -> dict[str, Any]:
    """The job with another value at the end of the path, or without any."""
    changed = copy.deepcopy({"job_resources": job["job_resources"], "gres_detail": job["gres_detail"]})
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    if values:
        inner[path[-1]] = values[0]
    else:
        del inner[path[-1]]
    return job | changed


@pytest.mark.parametrize("release", ["21.08", "22.05", "25.11"])  # a shape each
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("job_id", [3, 8])
def test_no_absurd_value_within_its_resources_crashes_or_invents_an_id(release: str, job_id: int) -> None:
    check = Corrupted(release, job_id)
    for name in ("job_resources", "gres_detail"):
        for path in _paths(check.job[name], (name,)):
            check(_changed(check.job, path))
            for value in (*ABSURD, 99):
                check(_changed(check.job, path, value))


@pytest.mark.parametrize("core", ["nonsense", "-1", "8", "99", "٣", "", "1.5"])
def test_a_core_that_its_socket_lacks_is_no_core_of_the_next_socket(core: str) -> None:
    check = Corrupted("22.05", 3)
    changed = copy.deepcopy(check.job)
    changed["job_resources"]["allocated_nodes"][0]["sockets"]["0"]["cores"][core] = "allocated"
    check(changed)


def test_a_shape_of_resources_that_is_not_known_yet_keeps_the_run_with_its_hosts() -> None:
    job = Corrupted("25.11", 8).job | {"job_resources": {"nodes": {"allocation": [{"brand": "new"}]}}}
    (run,) = details.parse_details(json.dumps({"jobs": [job]}).encode(), CLUSTER, {8}, {})
    assert [(a.host, a.cpus, a.cores) for a in run.allocations] == [
        ("n2dgx01", None, None),
        ("n2gpu02", None, None),
    ]
