"""What the portal says of jobs: counts, the longest ones, entries. Without a server."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from portal_data import (
    CONTROL,
    HOSTILE,
    NOW,
    RECORDED,
    SITE_TYPES,
    make_job,
    numbers,
    read,
    render,
    snapshot,
)  # fmt: skip

from backends.portal import Groups, render_portal
from backends.portal_jobs import clock, count_tasks, encode, in_words, job_entries

any_groups = st.sampled_from([Groups(), Groups(SITE_TYPES), Groups(SITE_TYPES, ["BIG"])])
any_job = st.builds(
    lambda state, user, partition, gpus, tasks: make_job(
        1, state, user=user, partition=partition, gpus=gpus, array_tasks=tasks
    ),
    state=st.sampled_from(["RUNNING", "PENDING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUE_HOLD"]),
    user=st.sampled_from("abc"),
    partition=st.sampled_from(["normal", "fat", "gpu36,normal", "elsewhere"]),
    gpus=st.integers(0, 4),
    tasks=st.sampled_from(["", "3-7%3"]),
)


@given(st.lists(any_job, max_size=20).map(tuple), any_groups)
def test_cpu_and_gpu_jobs_are_all_jobs(jobs: Any, groups: Groups) -> None:
    fields = render(snapshot(jobs=jobs), groups).hashes["cluster_job"]
    for word in ("running_jobs", "pending_jobs"):
        assert int(fields[word]) == sum(numbers(fields, f"cpu_{word}", f"gpu_{word}"))
    for prefix in ("", "cpu_", "gpu_"):
        users, running, pending = numbers(
            fields, f"{prefix}users", f"{prefix}running_users", f"{prefix}pending_users"
        )
        assert max(running, pending) <= users <= 3
    assert int(fields["users"]) <= sum(numbers(fields, "cpu_users", "gpu_users"))


def test_jobs_are_counted_as_slurm_itself_counted_them() -> None:
    result = render(RECORDED)
    assert numbers(result.hashes["cluster_job"], "running_jobs", "pending_jobs") == [18, 15]
    assert numbers(result.hashes["cluster_brief"], "job_running", "job_pending") == [18, 15]


def test_a_job_is_a_gpu_job_by_its_gpus_or_by_the_sites_group_of_its_partition() -> None:
    jobs = (
        make_job(1, gpus=1),
        make_job(2, partition="gpu36"),
        make_job(3, partition="unknown", gpus=1),
        make_job(4, "PENDING", partition="gpu36,normal", gpus=1),
    )
    by_gpus = render(snapshot(jobs=jobs)).hashes["cluster_job"]
    assert numbers(by_gpus, "gpu_running_jobs", "cpu_running_jobs", "gpu_pending_jobs") == [2, 1, 1]
    by_site = render(snapshot(jobs=jobs), Groups(SITE_TYPES)).hashes["cluster_job"]
    assert numbers(by_site, "gpu_running_jobs", "cpu_running_jobs", "gpu_pending_jobs") == [2, 1, 0]


def counts(*states: str) -> list[int]:
    jobs = tuple(make_job(number, state) for number, state in enumerate(states, 1))
    return numbers(render(snapshot(jobs=jobs)).hashes["cluster_job"], "running_jobs", "pending_jobs", "users")


def test_suspended_and_stopped_jobs_are_listed_but_not_running() -> None:
    assert counts("SUSPENDED", "STOPPED") == [0, 0, 1]
    jobs = (make_job(1, "SUSPENDED"), make_job(2, "STOPPED"))
    assert len(render(snapshot(jobs=jobs)).lists["jobs"]) == 2


def test_a_configuring_job_is_running_and_a_completing_one_is_gone() -> None:
    assert counts("CONFIGURING") == [1, 0, 1]
    assert counts("COMPLETING") == [0, 0, 0]
    assert render(snapshot(jobs=(make_job(1, "COMPLETING"),))).lists["jobs"] == []


@pytest.mark.parametrize("word", ["REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"])
def test_a_requeued_or_held_job_is_pending(word: str) -> None:
    assert counts(word) == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("", 1),
        ("3-7%3", 5),
        ("0-30:2", 16),
        ("1,3,5-9", 7),
        ("[1-4]", 4),
        ("7", 1),
        ("0-999999999", 1_000_000_000),
        ("9-3", 1),
        ("1-9:0", 1),
        ("1,,3", 1),
        ("1-", 1),
        ("1,3,...", 1),
        ("0x7", 1),
        ("٣-٧", 1),
        ("%5", 1),
    ],
)
def test_a_waiting_array_counts_as_many_jobs_as_tasks_wait(text: str, tasks: int) -> None:
    assert count_tasks(text) == tasks
    fields = render(snapshot(jobs=(make_job(1, "PENDING", array_tasks=text),))).hashes["cluster_job"]
    assert int(fields["pending_jobs"]) == tasks


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(1, 9)), min_size=1, max_size=5))
def test_tasks_are_counted_as_python_counts_a_range(ranges: list[tuple[int, int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}:{step}" for first, more, step in ranges)
    assert count_tasks(text) == sum(len(range(f, f + more + 1, step)) for f, more, step in ranges)


@given(st.text())
def test_no_text_of_tasks_breaks_the_count(text: str) -> None:
    assert count_tasks(text) >= 1


def test_a_waiting_array_is_one_entry_and_a_running_task_has_its_number() -> None:
    entries = {entry["job_id"]: entry for entry in render(RECORDED).lists["jobs"]}
    assert (entries[9]["array_job_id"], entries[9]["array_task_id"]) == (9, "3-7%3")
    assert (entries[30]["array_job_id"], entries[30]["array_task_id"]) == (9, 0)
    assert (entries[1]["array_job_id"], entries[1]["array_task_id"]) == (0, "")


def test_info_is_the_node_list_of_a_running_job_and_the_reason_of_a_pending_one() -> None:
    jobs = (make_job(1), make_job(2, "PENDING", reason="(Resources)"), make_job(3, "SUSPENDED"))
    assert [entry["info"] for entry in render(snapshot(jobs=jobs)).lists["jobs"]] == [
        "n2cn005", "Resources", "n2cn005",
    ]  # fmt: skip


def test_times_are_running_or_waiting_times_and_never_negative() -> None:
    jobs = (
        make_job(1, start_time=NOW - 3723),
        make_job(2, "PENDING", submit_time=NOW - 65, start_time=NOW + 999),
        make_job(3, start_time=NOW + 60),
        make_job(4, "CONFIGURING", start_time=0),
    )
    entries = render(snapshot(jobs=jobs)).lists["jobs"]
    assert [entry["time_used"] for entry in entries] == ["1:02:03", "1:05", "0:00", "0:00"]
    assert [entry["time_used_seconds"] for entry in entries] == [3723, 65, 0, 0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (65, "1:05"),
        (3599, "59:59"),
        (3723, "1:02:03"),
        (86399, "23:59:59"),
        (93784, "1-02:03:04"),
    ],
)
def test_the_clock_is_squeues(seconds: int, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42, "42 seconds"), (60, "1.00 minutes"), (750, "12.50 minutes"), (11700, "3.25 hours")],
)
def test_durations_are_in_words(seconds: int, text: str) -> None:
    assert in_words(seconds) == text


def test_the_five_longest_come_first_and_both_spellings_agree() -> None:
    jobs = tuple(make_job(n, "PENDING", name=f"p{n}", submit_time=NOW - n) for n in range(1, 8))
    jobs += tuple(make_job(n, name=f"r{n}", start_time=NOW - n * 60) for n in range(1, 4))
    jobs += (make_job(99, "SUSPENDED", name="suspended", start_time=1),)
    fields = render(snapshot(jobs=jobs)).hashes["cluster_job"]
    assert [*map(list, json.loads(fields["pengding_top5"]))] == [["p7"], ["p6"], ["p5"], ["p4"], ["p3"]]
    assert fields["pending_top5"] == fields["pengding_top5"]
    assert json.loads(fields["running_top5"]) == [
        {"r3": "3.00 minutes"}, {"r2": "2.00 minutes"}, {"r1": "1.00 minutes"},
    ]  # fmt: skip


# Hostile texts


any_name = st.text() | st.sampled_from(
    [HOSTILE, CONTROL, "\udc80\udcff", "||||", "\\", "'", '"', "None", "true"]
)


@given(any_name)
def test_a_top5_parses_as_json_and_as_a_python_literal_alike(name: str) -> None:
    portal = render_portal(snapshot(jobs=(make_job(1, name=name),)), Groups())
    text = portal.hashes["cluster_job"]["running_top5"]
    assert isinstance(text, bytes)
    assert json.loads(text.decode()) == ast.literal_eval(text.decode()) == [{plain(name): "9 seconds"}]


@given(any_name)
def test_an_entry_is_one_json_object_whatever_the_job_is_called(name: str) -> None:
    (entry,) = job_entries((make_job(1, name=name, account=name),), NOW)
    assert json.loads(entry.decode()) == ast.literal_eval(entry.decode())
    assert json.loads(entry)["name"] == plain(name)
    assert not any(byte < 0x20 for byte in entry)


def plain(name: str) -> str:
    return name.encode(errors="replace").decode()


def test_half_a_surrogate_pair_is_replaced_and_the_rest_is_kept() -> None:
    assert json.loads(encode({"a\udc80": "中\ud800"})) == {"a?": "中?"}


# The hash layout


def old_reader(fields: dict[str, str]) -> list[dict[str, Any]]:
    """As the portal of the time reads C_jobs."""
    return [ast.literal_eval(text) for text in fields["jobs"].split("||||")]


def test_the_hash_layout_has_one_field_a_node_and_one_text_with_all_jobs() -> None:
    portal = render_portal(RECORDED, Groups(), "hash")
    hashes = read(portal).hashes
    assert portal.lists == {}
    assert json.loads(hashes["nodes"]["n2gpu01"])["res_alloc"] == 3
    assert len(hashes["nodes"]) == 11
    assert set(hashes["jobs"]) == {
        "update_time", "running_jobs", "pending_jobs", "running_users", "pending_users", "jobs",
    }  # fmt: skip
    assert len(old_reader(hashes["jobs"])) == 30  # all but the completing one


def test_an_old_reader_finds_its_own_names_in_the_hash_layout() -> None:
    jobs = (make_job(1, name="a"), make_job(2, "PENDING", name="b", submit_time=NOW - 65))
    running, pending = old_reader(read(render_portal(snapshot(jobs=jobs), Groups(), "hash")).hashes["jobs"])
    assert (running["job_name"], running["time_used_seconds"], running["time_wait"]) == ("a", 9, 0)
    assert (pending["job_name"], pending["time_wait"], pending["timestamp_submit"]) == ("b", 65, NOW - 65)


@given(st.lists(any_name, min_size=1, max_size=4))
def test_no_name_breaks_the_separator_of_the_hash_layout(names: list[str]) -> None:
    jobs = tuple(make_job(number, name=name) for number, name in enumerate(names))
    hashes = read(render_portal(snapshot(jobs=jobs), Groups(), "hash")).hashes
    assert [job["job_name"] for job in old_reader(hashes["jobs"])] == [plain(name) for name in names]
