"""CPU_IDs of `scontrol show job -d`: read right, not believed where a job's owner could have written them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import ALL, Recorded, told_by_scontrol

from model import Allocation, Node, Run, RunKey
from slurm.cpu_ids import CpuIds, cores_agree, cores_of, parse_cpu_ids, settle_cores

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)


def block(job_id: int, *groups: str, name: str = "train") -> str:
    """A job as scontrol prints it; the name is raw."""
    lines = "".join(f"     {group} Mem=100 GRES=\n" for group in groups)
    return (
        f"JobId={job_id} JobName={name}\n   UserId=ada(2001) GroupId=ada(2001) MCS_label=N/A\n"
        f"   JobState=RUNNING Reason=None Dependency=(null)\n   NodeList=n1\n   JOB_GRES=(null)\n"
        f"{lines}   Command=/home/ada/job.sh\n   WorkDir=/home/ada\n\n"
    )


def parse(*blocks: str) -> dict[int, CpuIds]:
    return parse_cpu_ids("".join(blocks).encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_the_cpus_of_a_recording_are_read(recorded: Recorded) -> None:
    ids, nodes = parse_cpu_ids(recorded.read("scontrol_job_d.txt")), recorded.nodes()
    for job_id, held in told_by_scontrol(recorded).items():
        told = {host: cores_of(cpus, nodes[host].threads_per_core) for host, cpus in ids[job_id].items()}
        assert told == {a.host: a.cores for a in held}
        assert {host: len(cpus) for host, cpus in ids[job_id].items()} == {a.host: a.cpus for a in held}


def test_groups_of_alike_nodes_are_told_for_each_node() -> None:
    assert parse(block(4, "Nodes=n[2-3] CPU_IDs=0-1,16", "Nodes=n5 CPU_IDs=7"), block(5)) == {
        4: {"n2": (0, 1, 16), "n3": (0, 1, 16), "n5": (7,)},
    }


def test_array_tasks_and_components_are_found_by_their_own_id() -> None:
    task = block(30, "Nodes=n1 CPU_IDs=0").replace("JobId=30", "JobId=30 ArrayJobId=9 ArrayTaskId=0")
    component = block(11, "Nodes=n1 CPU_IDs=1").replace("JobId=11", "JobId=11 HetJobId=10 HetJobOffset=1")
    assert parse(task, component) == {30: {"n1": (0,)}, 11: {"n1": (1,)}}


VICTIM = block(5, "Nodes=n1 CPU_IDs=0-1")
FAKES = [
    "x\nJobId=5 JobName=y\n     Nodes=n1 CPU_IDs=8-9 Mem=100 GRES=",
    "x\nJobId=5\n     Nodes=n1 CPU_IDs=8-9 Mem=100 GRES=",
    "x\nJobId=05 JobName=y\n     Nodes=n1 CPU_IDs=8-9 Mem=100 GRES=",
    "x\nJobId=5 JobName=y\n   NodeList=n1\n\nJobId=5 JobName=z\n     Nodes=n1 CPU_IDs=8-9 Mem=1 GRES=",
]


@pytest.mark.parametrize("name", FAKES)
@pytest.mark.parametrize("first", [True, False])
def test_a_name_that_fakes_a_jobs_block_is_not_believed(name: str, first: bool) -> None:
    attacker = block(22, "Nodes=n1 CPU_IDs=4-5", name=name)
    told = parse(attacker, VICTIM) if first else parse(VICTIM, attacker)
    assert 5 not in told
    assert told.get(22) in (None, {"n1": (4, 5)})


@pytest.mark.parametrize(
    "name",
    [
        "x\n     Nodes=n1 CPU_IDs=8-9 Mem=100 GRES=",
        "x\n     Nodes=n[1-9] CPU_IDs=8-9 Mem=100 GRES=",
        "x\n     Nodes=n[1 CPU_IDs=8-9 Mem=100 GRES=",
        "x\n     Nodes=n2 CPU_IDs=9-8 Mem=100 GRES=",
        "x\n     Nodes=n2 CPU_IDs=" + "9" * 5000 + " Mem=100 GRES=",
    ],
)
def test_a_name_that_fakes_cpus_of_its_own_job_makes_nothing_of_it_believed(name: str) -> None:
    assert parse(block(22, "Nodes=n1 CPU_IDs=4-5", name=name), VICTIM) == {5: {"n1": (0, 1)}}


def test_a_name_that_ends_its_block_early_leaves_its_own_job_without() -> None:
    told = parse(block(22, "Nodes=n1 CPU_IDs=4-5", name="x\nJobId=99999 JobName=y"), VICTIM)
    assert told == {99999: {"n1": (4, 5)}, 5: {"n1": (0, 1)}}


@pytest.mark.parametrize(
    "name", ["JobId=5 ", " JobId=5", "\rJobId=5 ", "\x0bJobId=5 ", "\u2028JobId=5 ", "\udce9"]
)
def test_what_looks_like_a_block_within_a_line_is_none(name: str) -> None:
    assert parse(block(22, "Nodes=n1 CPU_IDs=4-5", name=name), VICTIM) == {
        22: {"n1": (4, 5)},
        5: {"n1": (0, 1)},
    }


@pytest.mark.parametrize("answer", [b"", b"No jobs in the system\n", b"\xff\xfe", b"JobId=\n", b"JobId=5"])
def test_text_without_jobs_tells_nothing(answer: bytes) -> None:
    assert parse_cpu_ids(answer) == {}


@PROPERTY
@given(st.text("JobId=5 \nNodes=n1CPU_IDs,-Mem[]", max_size=200), st.integers(0, 400))
def test_no_text_crashes_the_reader(name: str, cut: int) -> None:
    parse_cpu_ids((block(22, "Nodes=n1 CPU_IDs=4-5", name=name) + VICTIM).encode()[:cut])


def test_a_core_is_its_cpus_divided_by_the_threads() -> None:
    assert cores_of((0, 1, 16, 17), 2) == (0, 8)
    assert cores_of((3, 1), 1) == (1, 3)


NODE = Node(
    name="n1",
    states=("MIXED",),
    partitions=(),
    cpus=16,
    alloc_cpus=0,
    sockets=2,
    cores_per_socket=4,
    threads_per_core=2,
    memory_mb=0,
    alloc_memory_mb=0,
    load=None,
    gpus=(),
    reason="",
)
NODES = {"n1": NODE, "n2": msgspec.structs.replace(NODE, name="n2")}


def a_run(cpus: int, *allocations: Allocation, job_id: int = 5) -> Run:
    return Run(
        key=RunKey("noctua", job_id, 1000),
        user="ada",
        account="physics",
        partition="normal",
        state="RUNNING",
        allocations=allocations,
        cpus=cpus,
        gpus=0,
        node_list="n[1-2]",
    )


@pytest.mark.parametrize(
    ("cpus", "cores", "agree"),
    [
        (4, (0, 1), True),
        (3, (0, 1), True),
        (2, (0, 1), True),
        (1, (0, 1), False),
        (5, (0, 1), False),
        (2, (0, 7), True),
        (2, (0, 8), False),
        (0, (), False),
        (2, None, False),
    ],
)
def test_cores_agree_with_the_count_of_cpus(cpus: int, cores: tuple[int, ...] | None, agree: bool) -> None:
    assert cores_agree(a_run(cpus, Allocation("n1", cores=cores)), NODES) is agree


def never() -> Mapping[int, CpuIds]:
    raise AssertionError("nobody is in doubt")


def test_runs_whose_cores_agree_ask_nothing() -> None:
    runs = (a_run(4, Allocation("n1", cores=(0, 1))), a_run(2, Allocation("n2", cores=(3,))))
    assert settle_cores(runs, NODES, never) == runs


def test_without_nodes_nothing_can_be_settled_and_nothing_is_asked() -> None:
    runs = (a_run(4, Allocation("n1")),)
    assert settle_cores(runs, {}, never) == runs


def test_doubtful_cores_are_replaced_and_the_others_stay() -> None:
    good = a_run(4, Allocation("n1", cores=(0, 1)), job_id=6)
    wrong = a_run(6, Allocation("n1", cores=(2, 3)), Allocation("n2"))
    told: dict[int, CpuIds] = {5: {"n1": (4, 5, 6, 7), "n2": (14, 15)}, 6: {"n1": (8, 9, 10, 11)}}
    assert settle_cores((good, wrong), NODES, lambda: told) == (
        good,
        a_run(6, Allocation("n1", 4, (2, 3)), Allocation("n2", 2, (7,))),
    )


def test_a_job_of_fewer_cpus_than_threads_has_its_cores_and_no_count_by_node() -> None:
    told: dict[int, CpuIds] = {5: {"n1": (0, 1, 2, 3), "n2": (14, 15)}}
    run = a_run(3, Allocation("n1"), Allocation("n2"))
    settled = a_run(3, Allocation("n1", None, (0, 1)), Allocation("n2", None, (7,)))
    assert settle_cores((run,), NODES, lambda: told) == (settled,)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {6: {"n1": (0, 1, 2, 3)}},
        {5: {"n1": (0, 1)}},
        {5: {"n1": (0, 1, 2, 3)}},
        {5: {"n1": (0, 1, 2, 3, 4, 5, 6, 7), "n2": (0, 1)}},
        {5: {"n1": (0, 1), "n3": (0, 1)}},
        {5: {"n1": (0, 1), "n2": (16, 17)}},
    ],
)
def test_what_the_count_still_denies_keeps_its_hosts_only(told: dict[int, CpuIds]) -> None:
    wrong = a_run(4, Allocation("n1", cores=(0, 1, 2)), Allocation("n2", cores=(5, 6)))
    assert settle_cores((wrong,), NODES, lambda: told) == (a_run(4, Allocation("n1"), Allocation("n2")),)
