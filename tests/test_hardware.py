"""Cores and devices as a target numbers them: exactly, or not at all, and then it is said."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from recordings import CLUSTER, RELEASES, Recorded

from hardware import Hardware, Numbering, Rule, by_host, place
from model import Allocation, Device, GpuCount, HostTopology, Node, Placement, Resource, Run, RunKey
from slurm.hostlist import HostlistError
from slurm.recording import Recording


class Named(msgspec.Struct, frozen=True):
    """An entry of the configuration's `accelerators`."""

    kind: str
    pattern: str
    ids: dict[int, str]


def a_node(name: str, threads: int = 2, gpus: tuple[GpuCount, ...] = ()) -> Node:
    """Two sockets of four cores."""
    return Node(
        name=name,
        states=("MIXED",),
        partitions=(),
        cpus=8 * threads,
        alloc_cpus=0,
        sockets=2,
        cores_per_socket=4,
        threads_per_core=threads,
        memory_mb=0,
        alloc_memory_mb=0,
        load=None,
        gpus=gpus,
        reason="",
    )


def a_run(*allocations: Allocation, cpus: int = 4, gpus: int = 0, seen_alive: bool = True) -> Run:
    return Run(
        key=RunKey(CLUSTER, 5, 1000),
        user="ada",
        account="physics",
        partition="normal",
        state="RUNNING",
        allocations=allocations,
        cpus=cpus,
        gpus=gpus,
        node_list="",
        seen_alive=seen_alive,
    )


def hardware(
    *nodes: Node,
    topology: dict[str, HostTopology] | None = None,
    rules: Sequence[Rule] = (),
    numbering: Numbering = "interleaved",
) -> Hardware:
    return Hardware({node.name: node for node in nodes}, topology, tuple(rules), numbering)


def threads_of(placement: Placement) -> list[tuple[int, ...] | None]:
    return [resource.hwthreads for resource in placement.resources]


@pytest.mark.parametrize(
    ("numbering", "threads", "expected", "smt"),
    [
        ("interleaved", 2, (0, 5, 8, 13), 1),
        ("blocked", 2, (0, 1, 10, 11), 1),
        ("interleaved", 4, (0, 5, 8, 13, 16, 21, 24, 29), 1),
        ("interleaved", 1, (0, 5), 0),
        ("blocked", 1, (0, 5), 0),
    ],
)
def test_cores_are_numbered_by_rule_where_the_target_has_no_topology(
    numbering: Numbering, threads: int, expected: tuple[int, ...], smt: int
) -> None:
    run = a_run(Allocation("n1", cores=(0, 5)))
    placement, problems = place(run, hardware(a_node("n1", threads), numbering=numbering))
    assert placement == Placement((Resource("n1", expected, ()),), len(expected), 0, smt)
    assert problems == ()


def test_the_targets_own_topology_is_right_whatever_slurm_says() -> None:
    topology = {"n1": HostTopology(((0, 9), (2,), (4, 13)), ())}
    run = a_run(Allocation("n1", cores=(2, 0)))
    placement, problems = place(run, hardware(a_node("n1"), topology=topology, numbering="blocked"))
    assert placement == Placement((Resource("n1", (0, 4, 9, 13), ()),), 4, 0, 1)
    assert problems == ()


def test_a_target_that_does_not_know_a_host_takes_the_rule_for_it() -> None:
    known = {"n1": HostTopology(((7,), (6,)), ()), "n3": HostTopology((), ())}
    run = a_run(*(Allocation(host, cores=(1,)) for host in ("n1", "n2", "n3")))
    placement, _ = place(run, hardware(a_node("n2"), a_node("n3", 1), topology=known))
    assert threads_of(placement) == [(6,), (1, 9), (1,)]
    assert (placement.num_hwthreads, placement.smt) == (4, 1)


def test_what_is_held_with_one_thread_a_core_is_no_smt() -> None:
    topology = {"n1": HostTopology(((3,), (2,)), ())}
    assert place(a_run(Allocation("n1", cores=(0, 1))), hardware(a_node("n1"), topology=topology))[0].smt == 0


UNTOLD = "n2: which hardware threads a job holds cannot be told"


@pytest.mark.parametrize(
    ("second", "nodes"),
    [
        (Allocation("n2"), ("n1", "n2")),
        (Allocation("n2", cores=(0,)), ("n1",)),
        (Allocation("n2", cores=(0, 8)), ("n1", "n2")),
    ],
)
def test_where_one_host_is_not_told_no_thread_is_sent_and_the_cpus_are_counted(
    second: Allocation, nodes: tuple[str, ...]
) -> None:
    run = a_run(Allocation("n1", cores=(0, 1)), second, cpus=6)
    placement, problems = place(run, hardware(*(a_node(name) for name in nodes)))
    assert placement == Placement((Resource("n1", None, ()), Resource("n2", None, ())), 6, 0, 1)
    assert problems == (UNTOLD,)


def test_a_core_that_the_topology_lacks_is_not_told() -> None:
    topology = {"n2": HostTopology(((0,), (1,)), ())}
    run = a_run(Allocation("n2", cores=(2,)), cpus=2)
    placement, problems = place(run, hardware(a_node("n2", 1), topology=topology))
    assert placement == Placement((Resource("n2", None, ()),), 2, 0, 0)
    assert problems == (UNTOLD,)


def test_a_run_never_seen_alive_has_hosts_and_counts_and_no_ids_without_complaint() -> None:
    run = a_run(Allocation("n1"), Allocation("n2"), cpus=6, gpus=3, seen_alive=False)
    rules = [Named("prefix", "n", {0: "a"})]
    placement, problems = place(run, hardware(a_node("n1"), a_node("n2"), rules=rules))
    assert placement == Placement((Resource("n1", None, ()), Resource("n2", None, ())), 6, 3, 1)
    assert problems == ()


def test_a_run_on_hosts_of_which_nothing_is_known_has_its_counts() -> None:
    placement, problems = place(a_run(Allocation("n2", cores=(0,)), cpus=6, gpus=2), hardware())
    assert placement == Placement((Resource("n2", None, ()),), 6, 2, 0)
    assert problems == (UNTOLD,)


def gpus(*devices: Device, host: str = "g1") -> Run:
    return a_run(Allocation(host, cores=(0,), devices=devices), cpus=1, gpus=sum(d.count for d in devices))


CARDS = hardware(a_node("g1", 1, (GpuCount("", 8, 0),)))


def cards(run: Run, rules: Sequence[Rule] = (), topology: dict[str, HostTopology] | None = None) -> object:
    """The accelerators of the first host, their number, and the problems."""
    placement, problems = place(run, msgspec.structs.replace(CARDS, rules=tuple(rules), topology=topology))
    return placement.resources[0].accelerators, placement.num_acc, problems


def test_two_types_of_cards_on_a_node_are_found_by_index() -> None:
    run = gpus(Device("gpu", "a100", 1, (0,)), Device("gpu", "h100", 2, (10, 11)))
    names = {i: f"id{i}" for i in range(12)}
    assert cards(run, [Named("prefix", "g", names)]) == (("id0", "id10", "id11"), 3, ())
    topology = {"g1": HostTopology(((0,),), tuple(names.values()))}
    assert cards(run, (), topology) == (("id0", "id10", "id11"), 3, ())


def test_the_configuration_goes_before_the_topology() -> None:
    topology = {"g1": HostTopology(((0,),), ("wrong",))}
    assert cards(gpus(Device("gpu", "", 1, (0,))), [Named("prefix", "g", {0: "right"})], topology) == (
        ("right",),
        1,
        (),
    )


def test_an_index_without_an_entry_is_said_with_host_and_index_and_not_sent() -> None:
    run = gpus(Device("gpu", "a100", 2, (0, 3)), Device("gpu", "h100", 1, (3,)))
    told = ("g1: no accelerator id for index 3",)
    assert cards(run, [Named("prefix", "g", {0: "id0"})]) == (("id0",), 1, told)
    assert cards(run, (), {"g1": HostTopology(((0,),), ("id0",))}) == (("id0",), 1, told)


def test_cards_of_which_no_index_is_told_are_counted_and_said() -> None:
    told = ("g1: which accelerators a job holds cannot be told",)
    assert cards(gpus(Device("gpu", "", 2, None)), [Named("prefix", "g", {0: "id0"})]) == ((), 2, told)


def test_cards_without_any_ids_are_counted_and_said_only_where_ids_were_expected() -> None:
    run, told = gpus(Device("gpu", "", 2, (0, 1))), ("g1: which accelerators a job holds cannot be told",)
    assert cards(run) == ((), 2, ())
    assert cards(run, [Named("prefix", "other", {0: "id0"})]) == ((), 2, told)
    assert cards(run, (), {"g1": HostTopology(((0,),), ())}) == ((), 2, told)
    assert cards(run, (), {}) == ((), 2, told)


def test_a_job_without_cards_has_none_and_nothing_is_said() -> None:
    assert cards(gpus(), [Named("prefix", "other", {0: "id0"})]) == ((), 0, ())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("n2gpu01", "hosts"),
        ("n2gpu02", "hosts"),
        ("n2gpu03", "longest prefix"),
        ("n2gpux7", "regex"),
        ("n2cn001", "prefix"),
        ("x", None),
    ],
)
def test_a_list_or_expression_goes_before_the_longest_prefix(host: str, expected: str | None) -> None:
    rules = [
        Named("prefix", "n2", {0: "prefix"}),
        Named("prefix", "n2gpu", {0: "longest prefix"}),
        Named("prefix", "n2g", {0: "longer prefix"}),
        Named("hosts", "n2gpu[01-02],m1", {0: "hosts"}),
        Named("regex", r"^n2gpu(x|0[12])", {0: "regex"}),
    ]
    placement, _ = place(gpus(Device("gpu", "", 1, (0,)), host=host), hardware(rules=rules))
    assert placement.resources[0].accelerators == ((expected,) if expected else ())


def test_the_first_list_or_expression_that_names_the_host_holds() -> None:
    rules = [Named("regex", "^g", {0: "first"}), Named("hosts", "g[1-2]", {0: "second"})]
    assert cards(gpus(Device("gpu", "", 1, (0,))), rules) == (("first",), 1, ())
    assert cards(gpus(Device("gpu", "", 1, (0,))), rules[::-1]) == (("second",), 1, ())


def test_fpgas_are_mapped_on_nodes_without_gpus_where_the_configuration_names_them() -> None:
    run = gpus(Device("fpga", "u280", 2, (0, 1)), host="f1")
    rule = Named("prefix", "f", {0: "fpga0", 1: "fpga1"})
    fpgas, both = a_node("f1", 1), a_node("f1", 1, (GpuCount("", 2, 0),))
    assert place(run, hardware(fpgas, rules=[rule]))[0].resources[0].accelerators == ("fpga0", "fpga1")
    topology = {"f1": HostTopology(((0,),), ("card0", "card1"))}
    assert place(run, hardware(fpgas, topology=topology))[0].resources[0].accelerators == ()
    for with_gpus in (hardware(both, rules=[rule]), hardware(rules=[rule])):
        assert place(run, with_gpus)[0].resources[0].accelerators == ()


def test_beside_gpus_fpgas_are_not_mapped() -> None:
    run = gpus(Device("gpu", "", 1, (0,)), Device("fpga", "u280", 1, (1,)), Device("nic", "", 1, (0,)))
    assert cards(run, [Named("prefix", "g", {0: "card", 1: "other card"})]) == (("card",), 1, ())


def test_a_problem_is_said_once() -> None:
    run = gpus(Device("gpu", "a", 1, None), Device("gpu", "b", 1, None))
    assert cards(run, [Named("prefix", "g", {0: "x"})]) == (
        (),
        2,
        ("g1: which accelerators a job holds cannot be told",),
    )


def test_a_topology_by_host_list_is_told_for_each_host() -> None:
    kind, other = HostTopology(((0,),), ()), HostTopology(((1,),), ())
    assert by_host({"n[1-2]": kind, "m1,m3": other}) == {"n1": kind, "n2": kind, "m1": other, "m3": other}
    assert by_host(None) is None
    with pytest.raises(HostlistError):
        by_host({"n[2-1]": kind})


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("numbering", ["interleaved", "blocked"])
def test_no_thread_of_a_recording_is_given_to_two_jobs(release: str, numbering: Numbering) -> None:
    recorded = Recorded(release, "t0")
    known = Hardware(recorded.nodes(), None, (), numbering)
    held: list[tuple[str, int]] = []
    for run in Recording(recorded.folder, CLUSTER).read_details(range(1, 100), recorded.nodes()):
        placement, problems = place(run, known)
        assert problems == ()
        assert placement.num_hwthreads == run.cpus
        held += [(r.host, thread) for r in placement.resources for thread in r.hwthreads or ()]
    assert len(held) == len(set(held)) > 100
