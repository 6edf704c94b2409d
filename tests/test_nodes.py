"""Nodes of all releases alike: states, loads, cards, and answers that list no nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recordings import ABSURD, ALL, RELEASES, Recorded, refusal

from model import GpuCount, Node
from slurm.document import AnswerError
from slurm.nodes import parse_nodes

NAMES = [*(f"n2cn00{n}" for n in range(1, 7)), "n2dgx01", "n2fpga01", "n2gpu01", "n2gpu02", "n2off01"]


def parse(*nodes: dict[str, Any], **document: Any) -> tuple[Node, ...]:
    return parse_nodes(json.dumps({"nodes": nodes, "errors": [], **document}).encode(), "scontrol")


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_a_recording_has_the_same_nodes_in_every_release(recorded: Recorded) -> None:
    nodes = recorded.nodes()
    assert list(nodes) == NAMES
    assert {n.name: (n.cpus, n.sockets, n.cores_per_socket, n.threads_per_core) for n in nodes.values()} == {
        **{name: (32, 2, 8, 2) for name in NAMES[:6]},
        "n2dgx01": (64, 2, 16, 2),
        "n2fpga01": (4, 1, 4, 1),
        "n2gpu01": (16, 2, 8, 1),
        "n2gpu02": (16, 2, 8, 1),
        "n2off01": (4, 1, 4, 1),
    }
    assert {n.name: n.gpus for n in nodes.values() if n.gpus}.keys() == set(NAMES[6:10])


@pytest.mark.parametrize("release", RELEASES)
def test_cards_are_counted_by_type_and_partitions_listed(release: str) -> None:
    nodes = Recorded(release, "t0").nodes()
    assert nodes["n2dgx01"].gpus == (GpuCount("a100", 4, 3), GpuCount("h100", 4, 2))
    assert nodes["n2fpga01"].gpus == (GpuCount("", 2, 1),)
    assert (nodes["n2cn001"].partitions, nodes["n2cn001"].alloc_cpus) == (("normal", "all"), 22)


@pytest.mark.parametrize("release", RELEASES)
def test_states_are_upper_case_words_the_base_first(release: str) -> None:
    nodes = Recorded(release, "t0").nodes()
    assert nodes["n2cn003"].states == ("ALLOCATED", "DRAIN")
    assert nodes["n2off01"].states == ("DOWN", "NOT_RESPONDING")
    assert nodes["n2cn006"].states[0] == "IDLE"
    assert set(nodes["n2cn006"].states) == {"IDLE", "RESERVED", "MAINTENANCE", "PLANNED"}
    assert (nodes["n2cn003"].reason, nodes["n2off01"].reason) == ("bad dimm", "decommissioned")


@pytest.mark.parametrize(
    ("release", "load"), [("21.08", None), ("22.05", None), ("24.11", 0.0), ("25.11", 0.0)]
)
def test_a_load_that_is_not_reported_is_none(release: str, load: float | None) -> None:
    assert Recorded(release, "t0").nodes()["n2off01"].load == load


def test_a_node_is_read_whole() -> None:
    assert Recorded("24.11", "t0").nodes()["n2dgx01"] == Node(
        name="n2dgx01",
        states=("MIXED",),
        partitions=("gpu", "all"),
        cpus=64,
        alloc_cpus=6,
        sockets=2,
        cores_per_socket=16,
        threads_per_core=2,
        memory_mb=128_000,
        alloc_memory_mb=2000,
        load=1.73,
        gpus=(GpuCount("a100", 4, 3), GpuCount("h100", 4, 2)),
        reason="",
    )


BARE = Node(
    name="n1",
    states=(),
    partitions=(),
    cpus=0,
    alloc_cpus=0,
    sockets=1,
    cores_per_socket=1,
    threads_per_core=1,
    memory_mb=0,
    alloc_memory_mb=0,
    load=None,
    gpus=(),
    reason="",
)


def test_a_node_of_which_nothing_is_told_has_no_memory_and_one_core() -> None:
    assert parse({"name": "n1"}) == (BARE,)


@pytest.mark.parametrize("memory", [65_534, 65_535])
def test_a_node_may_have_as_much_memory_as_16_bits_call_not_set(memory: int) -> None:
    assert parse({"name": "n1", "real_memory": memory})[0].memory_mb == memory


def test_a_nodes_partitions_may_stand_in_one_text() -> None:
    assert parse({"name": "n1", "partitions": "normal,all"})[0].partitions == ("normal", "all")


@pytest.mark.parametrize(
    "name",
    [
        *("name", "state", "state_flags", "partitions", "cpus", "alloc_cpus", "sockets", "cores", "threads"),
        *("real_memory", "alloc_memory", "cpu_load", "gres", "gres_used", "reason"),
    ],
)
def test_a_node_with_any_field_absurd_harms_no_other(name: str) -> None:
    for value in ABSURD:
        assert parse({"name": "n0", name: value}, {"name": "n1"})[-1] == BARE, value


def test_a_node_without_name_or_that_is_no_object_is_left_out() -> None:
    assert parse({"cpus": 4}, {"name": "n1"}) == (BARE,)
    assert parse_nodes(b'{"nodes": [5, null, "n0", {"name": "n1"}]}', "scontrol") == (BARE,)


@pytest.mark.parametrize("release", ["24.11", "25.11"])
def test_groups_of_nodes_are_no_answer(release: str) -> None:
    with pytest.raises(AnswerError, match=r"^sinfo: the answer has no list of records$"):
        parse_nodes(Recorded(release, "t0").read("sinfo.json"), "sinfo")


@pytest.mark.parametrize("release", ["21.08", "22.05"])
def test_errors_with_exit_code_0_are_an_error(release: str) -> None:
    stdout, _, code = refusal(release, "slurmctld", "sinfo")
    assert code == 0
    with pytest.raises(AnswerError, match="Unspecified error"):
        parse_nodes(stdout, "sinfo")


@pytest.mark.parametrize("release", ["24.11", "25.11"])
def test_no_answer_is_an_error(release: str) -> None:
    stdout, _, code = refusal(release, "slurmctld", "scontrol_node_json")
    assert code == 1
    with pytest.raises(AnswerError, match="not a whole JSON answer"):
        parse_nodes(stdout, "scontrol")


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_half_an_answer_is_an_error(recorded: Recorded) -> None:
    whole = recorded.read(recorded.nodes_file).rstrip()
    for cut in range(0, len(whole), 997):
        with pytest.raises(AnswerError):
            parse_nodes(whole[:cut], "scontrol")
