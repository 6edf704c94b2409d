"""What the portal's keys say: sums, states, formats. Without a server; writing is test_redis_keys'."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from portal_data import JOBS, RECORDED, SITE_TYPES, make_node, numbers, render, snapshot

from backends.portal import Groups, is_broken, percentages, render_portal, use_of
from model import GpuCount

# Identities


any_amount = st.integers(0, 200)
any_node = st.builds(
    lambda states, cpus, alloc, gpus, partition: make_node(
        "n1", *states, cpus=cpus, alloc_cpus=alloc, gpus=gpus, partitions=(partition,)
    ),
    states=st.lists(
        st.sampled_from(
            ["IDLE", "MIXED", "ALLOCATED", "DOWN", "DRAIN", "FAIL", "POWERED_DOWN", "NOT_RESPONDING"]
        ),
        min_size=1,
    ),
    cpus=any_amount,
    alloc=any_amount,
    gpus=st.lists(st.builds(GpuCount, st.sampled_from(["", "a100"]), any_amount, any_amount), max_size=2).map(
        tuple
    ),
    partition=st.sampled_from(["normal", "fat", "gpu36", "elsewhere"]),
)
any_groups = st.sampled_from([Groups(), Groups(SITE_TYPES), Groups(SITE_TYPES, ["BIG"])])


@given(st.lists(any_node, max_size=8).map(tuple), any_groups)
def test_what_is_free_is_the_total_without_errors_and_what_is_allocated(nodes: Any, groups: Groups) -> None:
    fields = render(snapshot(nodes=nodes), groups).hashes["cluster_node"]
    units = ["all_cpu"] + [f"{g.name.lower()}_{'card' if g.counts_cards else 'cpu'}" for g in groups.all]
    for unit in units:
        total, error, allocated, free = numbers(
            fields, f"{unit}_tot", f"{unit}_error", f"{unit}_alloc", f"{unit}_free"
        )
        assert free == total - error - allocated and min(total, error, allocated, free) >= 0


@given(st.lists(any_node, max_size=8).map(tuple), any_groups)
def test_nodes_are_running_available_or_in_error(nodes: Any, groups: Groups) -> None:
    fields = render(snapshot(nodes=nodes), groups).hashes["cluster_node"]
    sums = []
    for prefix in ("all", *(group.name.lower() for group in groups.all)):
        total, *parts = numbers(
            fields, *(f"{prefix}_node_{word}" for word in ("tot", "running", "available", "error"))
        )
        assert total == sum(parts) and min(parts) >= 0
        sums.append(total)
    grouped = [use for use in (use_of(node, groups) for node in nodes) if use.group]
    assert sums[0] == len(nodes) and sum(sums[1:]) == len(grouped)


@given(st.lists(any_node, max_size=8).map(tuple))
def test_each_triple_of_percentages_adds_up_to_100(nodes: Any) -> None:
    brief = render(snapshot(nodes=nodes)).hashes["cluster_brief"]
    for unit in ("node", "core"):
        assert sum(numbers(brief, f"{unit}_running", f"{unit}_available", f"{unit}_error")) == 100


@given(st.tuples(any_amount, any_amount, any_amount).filter(any))
def test_a_percentage_is_never_a_whole_point_off(counts: tuple[int, int, int]) -> None:
    for share, count in zip(percentages(counts), counts, strict=True):
        assert abs(share - 100 * count / sum(counts)) < 1


def test_the_largest_remainder_gets_the_missing_percent() -> None:
    assert percentages((1, 1, 1)) == [34, 33, 33]
    assert percentages((116, 176, 4)) == [39, 60, 1]


def test_a_cluster_without_nodes_is_available_rather_than_a_division_by_zero() -> None:
    brief = render(snapshot()).hashes["cluster_brief"]
    assert numbers(brief, "node_running", "node_available", "node_error") == [0, 100, 0]


# The recorded cluster


def test_the_recorded_nodes_sum_up() -> None:
    fields = render(RECORDED).hashes["cluster_node"]
    assert numbers(fields, "all_cpu_tot", "all_cpu_alloc", "all_cpu_error") == [296, 116, 4]
    assert numbers(fields, "cpu_cpu_tot", "cpu_cpu_alloc", "cpu_cpu_free") == [196, 102, 90]
    assert numbers(fields, "gpu_card_tot", "gpu_card_alloc", "gpu_card_free") == [18, 11, 7]
    assert numbers(fields, "gpu_node_tot", "gpu_node_running", "gpu_node_available") == [4, 4, 0]
    assert numbers(fields, "all_node_running", "all_node_available", "all_node_error") == [9, 1, 1]


def test_the_recorded_nodes_have_their_usage_state() -> None:
    states = {entry["name"]: entry["state"] for entry in render(RECORDED).lists["nodes"]}
    assert states["n2cn001"] == "Running"
    assert states["n2cn003"] == "Busy"  # draining, but still running jobs
    assert states["n2cn006"] == "Available"
    assert states["n2dgx01"] == "Running"
    assert states["n2off01"] == "Error"


def test_running_jobs_hold_as_many_cards_as_the_nodes_have_allocated() -> None:
    entries = render(RECORDED).lists["jobs"]
    cards = sum(entry["gpus"] for entry in entries if entry["state"] == "RUNNING")
    assert cards == int(render(RECORDED).hashes["cluster_node"]["gpu_card_alloc"])


def test_all_fields_of_the_hashes_are_there_and_no_others() -> None:
    hashes = render(snapshot(pue=(1.234, 567.891))).hashes
    nodes = {"update_time"}
    for unit in ("all_cpu", "cpu_cpu", "gpu_card"):
        nodes |= {f"{unit}_{word}" for word in ("alloc", "error", "free", "tot")}
    for prefix in ("all", "cpu", "gpu"):
        nodes |= {f"{prefix}_node_{word}" for word in ("tot", "error", "available", "running")}
    jobs = {"pengding_top5", "pending_top5", "running_top5", "update_time"}
    for prefix in ("", "cpu_", "gpu_"):
        words = ("running_jobs", "pending_jobs", "running_users", "pending_users", "users")
        jobs |= {prefix + word for word in words}
    shares = {f"{unit}_{word}" for unit in ("node", "core") for word in ("running", "available", "error")}
    assert set(hashes["cluster_node"]) == nodes
    assert set(hashes["cluster_job"]) == jobs
    assert set(hashes["cluster_brief"]) == shares | {"job_running", "job_pending"}
    assert set(hashes["cluster_pue"]) == {"pue", "power", "update_time"}


def test_the_fields_of_an_entry_come_in_the_order_that_readers_know() -> None:
    result = render(RECORDED)
    assert list(result.lists["nodes"][0]) == [
        "name", "type", "state", "res_tot", "res_alloc", "cpu_avg_load", "mem_tot", "mem_alloc", "GPU",
        "res_usage", "res_usage_sort", "slurm_state", "reason", "partitions", "gpu_types",
    ]  # fmt: skip
    assert list(result.lists["jobs"][0]) == [
        "name", "account", "user", "partition", "qos", "nodes", "cpus", "state", "time_used",
        "time_used_seconds", "info", "job_id", "array_job_id", "array_task_id", "gpus", "submit_time",
        "start_time",
    ]  # fmt: skip


# Nodes


def state_of(*states: str, groups: Groups | None = None, **values: Any) -> str:
    return use_of(make_node("n1", *states, **values), groups or Groups()).state


@pytest.mark.parametrize("word", ["DOWN", "FAIL", "ERROR", "NOT_RESPONDING", "UNKNOWN", "INVALID_REG"])
def test_a_node_that_is_broken_or_silent_is_in_error_with_all_that_it_has(word: str) -> None:
    node = make_node("n1", "MIXED", word, alloc_cpus=8, gpus=(GpuCount("a100", 4, 2),))
    result = render(snapshot(nodes=(node,)))
    assert numbers(result.hashes["cluster_node"], "all_cpu_error", "all_cpu_alloc") == [32, 0]
    assert numbers(result.hashes["cluster_node"], "gpu_card_error", "gpu_card_alloc") == [4, 0]
    entry = result.lists["nodes"][0]
    assert (entry["state"], entry["res_tot"], entry["res_alloc"]) == ("Error", 4, 0)
    assert entry["gpu_types"] == {"a100": {"tot": 4, "alloc": 0}}


def test_a_drained_node_is_in_error_and_a_draining_one_is_not_yet() -> None:
    assert state_of("IDLE", "DRAIN") == "Error"
    assert state_of("MIXED", "DRAIN", alloc_cpus=8) == "Running"
    assert state_of("ALLOCATED", "DRAIN", alloc_cpus=32) == "Busy"


def test_a_powered_down_node_is_available_and_a_booting_one_is_no_error() -> None:
    assert state_of("IDLE", "CLOUD", "POWERED_DOWN") == "Available"
    assert state_of("IDLE", "NOT_RESPONDING", "POWERING_UP") == "Available"
    assert state_of("ALLOCATED", "NOT_RESPONDING", "POWERING_UP", alloc_cpus=32) == "Busy"
    assert is_broken(make_node("n1", "DOWN", "POWERED_DOWN"))


def test_a_gpu_node_is_as_busy_as_its_cards_and_another_as_its_cpus() -> None:
    full, half, none = (GpuCount("", 4, 4),), (GpuCount("", 4, 2),), (GpuCount("", 4, 0),)
    assert state_of("MIXED", alloc_cpus=1, gpus=full) == "Busy"
    assert state_of("ALLOCATED", alloc_cpus=32, gpus=half) == "Running"
    assert state_of("MIXED", alloc_cpus=8, gpus=none) == "Available"
    assert state_of("ALLOCATED", alloc_cpus=31) == "Running"  # 23.02 says ALLOCATED for MIXED


def test_a_node_of_a_gpu_group_without_cards_goes_by_its_cpus() -> None:
    groups = Groups({"GPU": ["gpu"]})
    assert state_of("MIXED", alloc_cpus=8, partitions=("gpu",), groups=groups) == "Running"


def test_cards_of_several_types_are_told_apart_and_untyped_ones_are_gpu() -> None:
    gpus = (GpuCount("a100", 4, 3), GpuCount("", 2, 1), GpuCount("a100", 2, 0))
    entry = render(snapshot(nodes=(make_node("n1", "MIXED", gpus=gpus),))).lists["nodes"][0]
    assert entry["gpu_types"] == {"a100": {"tot": 6, "alloc": 3}, "gpu": {"tot": 2, "alloc": 1}}
    assert (entry["res_tot"], entry["res_alloc"], entry["res_usage"], entry["res_usage_sort"]) == (
        8,
        4,
        "50%",
        50,
    )


def test_more_allocated_than_there_is_counts_as_all_of_it() -> None:
    nodes = (make_node("n1", "ALLOCATED", cpus=16, alloc_cpus=32, gpus=(GpuCount("", 2, 4),)),)
    fields = render(snapshot(nodes=nodes)).hashes["cluster_node"]
    assert numbers(fields, "all_cpu_free", "gpu_card_free", "gpu_card_alloc") == [0, 0, 2]


def test_slurms_own_words_are_kept_beside_the_state() -> None:
    node = make_node("n1", "ALLOCATED", "DRAIN", "MAINTENANCE", alloc_cpus=32, reason='bad "dimm"\n')
    entry = render(snapshot(nodes=(node,))).lists["nodes"][0]
    assert entry["slurm_state"] == "ALLOCATED+DRAIN+MAINTENANCE"
    assert (entry["reason"], entry["partitions"]) == ('bad "dimm"\n', ["normal", "all"])


def test_a_load_that_is_not_reported_is_zero() -> None:
    assert render(snapshot(nodes=(make_node(load=None),))).lists["nodes"][0]["cpu_avg_load"] == 0


# Groups


def test_a_site_names_its_own_node_types() -> None:
    nodes = (
        make_node("n1", partitions=("normal",)),
        make_node("n2", partitions=("fat", "normal")),
        make_node("n3", partitions=("fat",), gpus=(GpuCount("a100", 4, 0),)),
        make_node("n4", partitions=("gpu36",), gpus=(GpuCount("a100", 4, 0),)),
        make_node("n5", partitions=("elsewhere",)),
    )
    result = render(snapshot(nodes=nodes), Groups(SITE_TYPES))
    assert [entry["type"] for entry in result.lists["nodes"]] == ["CPU", "CPU", "BIG", "GPU36", ""]
    assert [entry["GPU"] for entry in result.lists["nodes"]] == [0, 0, 0, 1, 0]
    assert [entry["res_tot"] for entry in result.lists["nodes"]] == [32, 32, 32, 4, 32]
    fields = result.hashes["cluster_node"]
    assert numbers(fields, "cpu_node_tot", "big_node_tot", "gpu36_node_tot", "all_node_tot") == [2, 1, 1, 5]
    assert numbers(fields, "cpu_cpu_tot", "big_cpu_tot", "gpu36_card_tot") == [64, 32, 4]
    assert not {"gpu_card_tot", "gpu36_cpu_tot", "big_card_tot"} & set(fields)


def test_a_site_says_which_of_its_node_types_count_cards() -> None:
    fields = render(snapshot(), Groups({"Fast": ["a"], "GPU": ["b"]}, ["Fast"])).hashes["cluster_node"]
    assert {"fast_card_tot", "gpu_cpu_tot"} <= set(fields)


# What was not read


def test_nodes_that_could_not_be_read_leave_their_keys_alone() -> None:
    portal = render_portal(snapshot(jobs=JOBS, nodes=None), Groups())
    assert set(portal.hashes) == {"cluster_job"} and set(portal.lists) == {"jobs"}
    assert portal.patches == {"cluster_brief": {"job_running": "18", "job_pending": "15"}}


def test_jobs_that_were_not_read_leave_their_keys_alone() -> None:
    portal = render_portal(snapshot(jobs=None), Groups())
    assert set(portal.hashes) == {"cluster_node"} and set(portal.lists) == {"nodes"}
    assert "node_running" in portal.patches["cluster_brief"]
    assert "job_running" not in portal.patches["cluster_brief"]


def test_power_usage_alone_touches_nothing_else() -> None:
    portal = render_portal(snapshot(jobs=None, nodes=None, pue=(1.23456, 830.0)), Groups())
    assert (portal.lists, portal.patches) == ({}, {})
    assert set(portal.hashes) == {"cluster_pue"}
    assert portal.hashes["cluster_pue"]["pue"] == "1.23"
    assert float(portal.hashes["cluster_pue"]["power"]) == 830


def test_power_usage_that_is_not_known_leaves_its_key_alone() -> None:
    assert "cluster_pue" not in render(RECORDED).hashes


def test_the_update_time_is_the_snapshots_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    hashes = render(snapshot(pue=(1.0, 1.0))).hashes
    monkeypatch.undo()
    time.tzset()
    for key in ("cluster_node", "cluster_job", "cluster_pue"):
        assert hashes[key]["update_time"] == "2026-11-21 04:31:24"
