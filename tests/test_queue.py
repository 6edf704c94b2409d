"""The listing of the queue as text: hostile names, half answers, waiting arrays; and what is made of jobs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queue_rows import ALIVE, RUNNING, SEP, WAITING, T, a_job, parse, text
from recordings import ALL, CLUSTER, LISTING_HEADER, Recorded, listing_text

from model import Allocation, Job, Run
from slurm import queue
from slurm.document import AnswerError

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)


def test_a_header_alone_means_that_there_are_no_jobs() -> None:
    assert parse(text()) == ()


def test_a_waiting_and_a_running_job_are_read_whole() -> None:
    assert parse(text({}, {"JobID": "4712", **ALIVE})) == (
        WAITING,
        a_job(RUNNING, job_id=4712),
    )


@pytest.mark.parametrize("name", ["JobID", "StartTime", "NumNodes", "SubmitTime", "admin_comment"])
def test_all_that_is_asked_for_stands_in_the_arguments(name: str) -> None:
    arguments = queue.listing_arguments(SEP)
    assert arguments[:-1] == ["-a", "-t", "all", "--local", "-O"]
    assert f"{name}:{SEP}" in arguments[-1].split(",")
    assert len(arguments[-1].split(",")) == len(LISTING_HEADER)


def test_a_separator_begins_with_a_letter_and_is_another_each_time() -> None:
    found = {queue.new_separator() for _ in range(100)}
    assert len(found) == 100
    assert all(re.fullmatch(r"[a-z][a-z0-9]{12,}", separator) for separator in found)


HOSTILE = [
    "evil\nname",
    "\n",
    "\nbegins with a newline",
    "\n" + "\n4712" + SEP[:-1] + "\n",
    "ends with one\n",
    "\x1f\x1e|\t\r\u2028\x85",
    SEP[:-1],
    SEP[1:],
    "x" * 3,
    "N/A",
    "(null)",
    "4711",
    '<script>alert(1)</script> "q" \\ 中文',
    "\x00",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_or_comment_harms_no_row(name: str) -> None:
    rows: tuple[dict[str, str], ...]
    rows = {"Name": name, "admin_comment": "a"}, {"Name": "b", "admin_comment": name or "(null)"}, {}
    first, second, third = parse(text(*rows))
    assert first == a_job(name=name, admin_comment="a")
    comment = "" if name in ("N/A", "(null)") else name
    assert second == a_job(name="b", admin_comment=comment)
    assert third == WAITING


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert parse(text({"Name": "caf\udce9"})) == (a_job(name="caf\ufffd"),)


@PROPERTY
@given(st.lists(st.text().filter(lambda name: SEP not in name + "x" and SEP not in "x" + name), max_size=4))
def test_any_names_are_read_back(names: list[str]) -> None:
    assert [job.name for job in parse(text(*({"Name": name} for name in names)))] == names


def test_a_listing_cut_in_a_row_is_an_error_and_at_its_end_a_shorter_one() -> None:
    rows = {"Name": "a\nb"}, {"Name": "\nc", "admin_comment": "\nd"}, {"admin_comment": "\n"}
    whole = text(*rows)
    ends = {len(text(*rows[:count])): count for count in range(4)}
    jobs = parse(whole)
    for cut in range(len(whole)):
        if cut in ends:
            assert parse(whole[:cut]) == jobs[: ends[cut]]
        else:
            with pytest.raises(AnswerError):
                parse(whole[:cut])


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
        text({})[len(text()) :],
        text({}, {})[len(text()) :],
        text(header=LISTING_HEADER[:-1]),
        b"CLUSTER: noctua\n" + text({}),
        text({}) + b"squeue: error: something\n",
        text({"JobID": "N/A"}),
        text({"JobID": "0"}),
        text({"JobID": ""}),
    ],
)
def test_an_answer_without_header_or_with_foreign_lines_is_an_error(answer: bytes) -> None:
    with pytest.raises(AnswerError, match=r"^squeue: "):
        parse(answer)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"ArrayTaskID": "3-7%3"},
            a_job(array_job_id=4711, array_tasks="3-7%3"),
        ),
        ({"ArrayTaskID": "5%2"}, a_job(array_job_id=4711, array_tasks="5%2")),
        ({"ArrayTaskID": "5"}, a_job(array_job_id=4711, array_task_id=5)),
        (
            {"ArrayJobID": "9", "ArrayTaskID": "0", **ALIVE},
            a_job(RUNNING, array_job_id=9, array_task_id=0),
        ),
        (
            {"HetJobID": "4711", "HetJobOffset": "0", **ALIVE},
            a_job(RUNNING, het_job_id=4711, het_offset=0),
        ),
        ({"NumCPUs": "2K", "NumNodes": "1K"}, a_job(cpus=2048, num_nodes=1024)),
        ({"tres-alloc": "cpu=1,gres/gpu=3,gres/gpu:a100=1,gres/gpu:h100=2"}, a_job(gpus=3)),
        ({"UserName": "nobody", "UserID": "2001"}, a_job(user="2001")),
        ({"Account": "(null)", "QOS": "(null)"}, a_job(account="", qos="")),
        ({"Reason": "ReqNodeNotAvail, UnavailableNodes:n1"}, a_job(reason="ReqNodeNotAvail")),
        ({"StartTime": str(T + 60), "EndTime": str(T + 90)}, a_job(start_time=T + 60)),
        ({**ALIVE, "EndTime": str(T + 90)}, RUNNING),
        ({**ALIVE, "EndTime": "NONE"}, RUNNING),
        ({**ALIVE, "State": "SIGNALING"}, RUNNING),
        (
            {**ALIVE, "State": "CANCELLED", "EndTime": str(T + 9)},
            a_job(RUNNING, state="CANCELLED", end_time=T + 9),
        ),
        (
            {**ALIVE, "State": "COMPLETING", "EndTime": str(T + 9)},
            a_job(RUNNING, state="COMPLETING", end_time=T + 9),
        ),
        ({**ALIVE, "State": "NEWSTATE", "EndTime": str(T + 9)}, a_job(RUNNING, state="NEWSTATE")),
        ({"JobID": "65534", "ArrayJobID": "65534"}, a_job(job_id=65_534)),
        ({"JobID": "65535", "ArrayJobID": "65535"}, a_job(job_id=65_535)),
    ],
)
def test_each_kind_of_row_is_read_whole(row: dict[str, str], expected: Job) -> None:
    assert parse(text(row)) == (expected,)


@pytest.mark.parametrize("recorded", ALL, ids=str)
def test_the_text_of_a_recording_gives_the_same_jobs_as_its_json(recorded: Recorded) -> None:
    jobs = recorded.json("squeue.json")["jobs"]
    listed = parse(listing_text(jobs, SEP))
    assert listed == queue.parse_listing_json(recorded.read("squeue.json"), CLUSTER)
    assert len(listed) > 20


@pytest.mark.parametrize(
    ("tasks", "numbers"),
    [
        ("0,3-5%3", [0, 3, 4, 5]),
        ("0-30:10", [0, 10, 20, 30]),
        ("7", [7]),
        ("5-3", []),
        ("", []),
        ("3-7...", []),
        ("0-99999999999", []),
        ("0-4000001", []),
        ("9" * 5000, []),
        ("1-3:0", [1, 2, 3]),
    ],
)
def test_waiting_tasks_are_counted_out(tasks: str, numbers: list[int]) -> None:
    assert queue.task_numbers(tasks) == numbers


def test_a_run_known_from_the_listing_alone_has_hosts_and_counts_but_no_ids() -> None:
    assert queue.run_of(a_job(RUNNING, cpus=4, gpus=2, state="COMPLETED", end_time=T + 9)) == Run(
        key=RUNNING.key, user="ada", account="physics", partition="normal", state="COMPLETED",
        allocations=(Allocation("n1"), Allocation("n2")), cpus=4, gpus=2, node_list="n[1-2]", qos="normal",
        name="train", submit_time=T, seen_alive=False, info="JobId=4711\nJobName=train\nNodeList=n[1-2]",
    )  # fmt: skip
