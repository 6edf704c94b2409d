"""Six more releases on nodes unlike the others': text and JSON agree, cores and cards are scontrol's.

Four sockets, four threads a core, twelve cards, MIG types, shards, names with suffixes; a job that was
shrunk, whose cards Slurm itself names on the wrong node.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import pytest
from recordings import CLUSTER, DATA, MOMENTS, Recorded

from model import Job, Run
from slurm import accounting, hostlist, queue
from slurm.recording import Recording

RELEASES = ("23.02", "23.11", "24.05.0", "24.05.8", "25.05", "26.05")
ALL = tuple(Recorded(release, moment) for release in RELEASES for moment in MOMENTS)
SEPARATOR = "xSEPx"
SHRUNK = "gpu shrunk"


def comparable(job: Job) -> Job:
    """The text names some nodes in another order than the JSON."""
    return msgspec.structs.replace(job, node_list=",".join(sorted(hostlist.expand(job.node_list))))


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_text_and_json_of_the_listing_give_the_same_records(recorded: Recorded) -> None:
    text = queue.parse_listing(recorded.read("squeue.txt"), SEPARATOR, CLUSTER)
    told = queue.parse_listing_json(recorded.read("squeue.json"), CLUSTER)
    assert len(text) >= 60
    assert {j.job_id: comparable(j) for j in text} == {j.job_id: comparable(j) for j in told}


def told_by_scontrol(recorded: Recorded) -> dict[int, dict[str, tuple[set[int], Counter[str]]]]:
    """Cores and cards by host of each active job; the test's own reading."""
    nodes = recorded.nodes()
    found: dict[int, dict[str, tuple[set[int], Counter[str]]]] = {}
    text = recorded.read("scontrol_job_d.txt").decode("utf-8", "replace")
    for block in re.split(r"\n\n(?=JobId=)", text):
        state = re.search(r"^   JobState=(\w+)", block, re.M)
        if state is None or state[1] not in ("RUNNING", "SUSPENDED") or f"JobName={SHRUNK}\n" in block:
            continue
        groups = re.findall(r"^     Nodes=(\S+) CPU_IDs=(\S+) Mem=\d+ GRES=(.*)$", block, re.M)
        found[int(block[6:].split()[0])] = {
            host: ({cpu // nodes[host].threads_per_core for cpu in numbers(cpus)}, cards(gres))
            for hosts, cpus, gres in groups
            for host in hostlist.expand(hosts)
        }
    return found


def numbers(spans: str) -> list[int]:
    ends = (span.split("-") for span in spans.split(","))
    return [n for end in ends for n in range(int(end[0]), int(end[-1]) + 1)]


def cards(gres: str) -> Counter[str]:
    """Type and index of each card, those that are held through shards too."""
    found: Counter[str] = Counter()
    for name, kind, spans in re.findall(r"(gpu|shard)(?::([^:(,]+))?:\d+\(IDX:([0-9,-]+)\)", gres):
        found.update({f"{kind}{n}": 1 for n in numbers(spans)} if name else {})
    for kind, shards in re.findall(r"shard(?::([^:(,]+))?:\d+\(((?:\d+/\d+,?)+)\)", gres):
        found.update({f"{kind}{n}": 1 for n, s in enumerate(shards.split(",")) if not s.startswith("0/")})
    return found


def held_by(run: Run) -> dict[str, tuple[set[int], Counter[str]]]:
    return {
        a.host: (
            set(a.cores or ()),
            Counter(f"{d.type}{i}" for d in a.devices if d.name == "gpu" for i in d.indexes or ()),
        )
        for a in run.allocations
    }


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_cores_and_cards_are_those_that_scontrol_tells(recorded: Recorded) -> None:
    told = told_by_scontrol(recorded)
    runs = Recording(recorded.folder, CLUSTER).read_details(range(1, 1000), recorded.nodes())
    held = {run.key.job_id: held_by(run) for run in runs if run.name != SHRUNK}
    assert len(held) >= 30
    assert held == {job_id: told[job_id] for job_id in held}
    assert all(sum(map(len, a.keys())) for a in held.values())


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_a_shrunk_jobs_cards_are_of_the_types_that_its_nodes_have(recorded: Recorded) -> None:
    nodes = recorded.nodes()
    runs = Recording(recorded.folder, CLUSTER).read_details(range(1, 1000), nodes)
    shrunk = [run for run in runs if run.name == SHRUNK]
    assert len(shrunk) == 1
    for allocation in shrunk[0].allocations:
        has = {gpu.type for gpu in nodes[allocation.host].gpus}
        assert {d.type for d in allocation.devices if d.name == "gpu"} <= has


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_accountings_text_is_read_whole(recorded: Recorded) -> None:
    for name in ("sacct.txt", "sacct_ids.txt"):
        answer = recorded.read(name)
        records = accounting.parse_text(answer, SEPARATOR, CLUSTER)
        assert 0 < len(records) <= answer.count(SEPARATOR.encode()) // (len(accounting.FIELDS) - 1)


@pytest.mark.parametrize("release", RELEASES)
def test_jobs_that_share_with_their_user_only_are_told_apart(release: str) -> None:
    recorded = Recorded(release, "t0")
    runs = Recording(recorded.folder, CLUSTER).read_details(range(1, 1000), recorded.nodes())
    assert {run.sharing for run in runs} == {"multi_user", "none", "single_user"}


def test_no_recording_names_a_folder_of_the_machine_it_was_made_on() -> None:
    for release in RELEASES:
        for path in (DATA / f"slurm-{release}").rglob("*"):
            if path.is_file():
                assert b"/throwaway" not in path.read_bytes()
