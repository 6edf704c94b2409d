"""Accounting's text: rows with anything in them, half answers, resized and requeued runs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import ALL, CLUSTER, Recorded, accounting_text

from model import Allocation, Run, RunKey
from slurm import accounting, accounting_json
from slurm.accounting import Accounted
from slurm.document import AnswerError
from slurm.wire import ShapeError

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
SEP = "x0123456789aby"
T = 1_795_231_851
INFO = (
    "JobId=4711\nJobName=train\nUserId=ada\nAccount=physics\nQOS=normal\nPartition=gpu\n"
    f"SubmitTime={T}\nStartTime={T + 5}\nTimeLimitMinutes=60\nNodeList=n[1-2]\nNumCPUs=8\n"
    "TRES=billing=8,cpu=8,gres/gpu=2,gres/gpu:a100=2,mem=4000M,node=2"
)
RUN = Run(
    key=RunKey(CLUSTER, 4711, T + 5),
    user="ada",
    account="physics",
    partition="gpu",
    state="COMPLETED",
    allocations=(Allocation("n1"), Allocation("n2")),
    cpus=8,
    gpus=2,
    node_list="n[1-2]",
    qos="normal",
    name="train",
    submit_time=T,
    time_limit_s=3600,
    memory_mb=4000,
    seen_alive=False,
    info=INFO,
)
ROW = {
    **{"JobID": "4711", "JobIDRaw": "4711", "Cluster": CLUSTER, "User": "ada", "UID": "2001"},
    **{"Account": "physics", "Partition": "gpu", "QOS": "normal", "State": "COMPLETED", "AllocCPUS": "8"},
    **{"AllocTRES": "billing=8,cpu=8,gres/gpu=2,gres/gpu:a100=2,mem=4000M,node=2", "Submit": str(T)},
    **{"Start": str(T + 5), "End": str(T + 65), "TimelimitRaw": "60", "JobName": "train"},
    **{"AdminComment": "", "NodeList": "n[1-2]"},
}


def text(*rows: dict[str, str]) -> bytes:
    """What sacct prints of ROW, once for each row, which tells what differs."""
    lines = [SEP.join((ROW | row)[name] for name in accounting.FIELDS) + "\n" for row in rows]
    return "".join(lines).encode("utf-8", "surrogateescape")


def parse(answer: bytes) -> tuple[Accounted, ...]:
    return accounting.parse_text(answer, SEP, CLUSTER)


def piece(state: str, start: int, end: int, **changes: Any) -> Accounted:
    opted_out_by = changes.pop("opted_out_by", "")
    changes = {"key": RunKey(CLUSTER, 4711, start), "state": state} | changes
    return Accounted(msgspec.structs.replace(RUN, **changes), end, opted_out_by)


def test_no_rows_mean_that_nothing_was_found() -> None:
    assert parse(b"") == ()


def test_an_ended_run_is_read_whole() -> None:
    assert parse(text({"AdminComment": "no_sync"})) == (Accounted(RUN, T + 65, "no_sync"),)


def test_a_window_is_asked_with_both_ends_and_ids_from_a_moment_on() -> None:
    common = [
        "-a",
        "-X",
        "-D",
        "--local",
        "-n",
        "-P",
        f"--delimiter={SEP}",
        "-o",
        ",".join(accounting.FIELDS),
    ]
    span = ["-S", f"uts{T}", "-E", f"uts{T + 60}"]
    states = ["-s", "CD,F,CA,TO,NF,PR,BF,DL,OOM,RQ"]
    assert accounting.window_arguments(SEP, T, T + 60) == [*common, *states, *span]
    assert accounting.ids_arguments(SEP, [7, 9], T, T + 60) == [*common, "-j", "7,9", *span]


@pytest.mark.parametrize(
    "name",
    ["a\nb", "\n", "\n\n4711", "b\n", "\x1f\x1e|\t\r\u2028\x85", SEP[:-1], SEP[1:], "None", "中", "\x00", ""],
)
def test_a_hostile_name_or_admin_comment_harms_no_row(name: str) -> None:
    first, second, third = parse(text({"JobName": name}, {"AdminComment": name}, {}))
    assert (first.run.name, first.opted_out_by) == (name, "")
    assert (second.run.name, second.opted_out_by) == ("train", name)
    assert third == Accounted(RUN, T + 65)


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert [record.run.name for record in parse(text({"JobName": "caf\udce9"}))] == ["caf\ufffd"]


@PROPERTY
@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
def test_any_names_and_comments_are_read_back(pairs: list[tuple[str, str]]) -> None:
    answer = text(*({"JobName": name, "AdminComment": comment} for name, comment in pairs))
    assert [(record.run.name, record.opted_out_by) for record in parse(answer)] == pairs


def test_an_answer_cut_in_a_row_is_an_error_and_at_its_end_a_shorter_one() -> None:
    rows: tuple[dict[str, str], ...]
    rows = {"AdminComment": "a\nb\n"}, {"JobName": "\n", "JobIDRaw": "5"}, {"AdminComment": "\n"}
    whole = text(*rows)
    ends = {len(text(*rows[:count])): count for count in range(3)}
    records = parse(whole)
    for cut in range(len(whole)):
        if cut in ends:
            assert parse(whole[:cut]) == records[: ends[cut]]
        else:
            with pytest.raises(AnswerError):
                parse(whole[:cut])


@pytest.mark.parametrize("answer", [b"\n", b"sacct: error: no\n", text({}) + b"slurmdbd says hello\n"])
def test_lines_that_are_no_rows_are_an_error(answer: bytes) -> None:
    with pytest.raises(AnswerError, match=r"^sacct: "):
        parse(answer)


def changed(**changes: Any) -> tuple[Accounted, ...]:
    lines = changes.pop("info", {})
    info = "\n".join(lines.get(line.partition("=")[0], line) for line in INFO.splitlines())
    end_time = changes.pop("end_time", T + 65)
    return (Accounted(msgspec.structs.replace(RUN, **{"info": info} | changes), end_time),)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"State": "CANCELLED by 123"}, changed(state="CANCELLED")),
        ({"State": "BRAND_NEW"}, changed(state="BRAND_NEW")),
        ({"State": "RUNNING", "End": "Unknown"}, changed(state="RUNNING", end_time=0)),
        (
            {"JobID": "9_3"},
            changed(
                array_job_id=9,
                array_task_id=3,
                info={"JobName": "JobName=train\nArrayJobId=9\nArrayTaskId=3"},
            ),
        ),
        (
            {"JobID": "10+1"},
            changed(
                het_job_id=10, het_offset=1, info={"JobName": "JobName=train\nHetJobId=10\nHetJobOffset=1"}
            ),
        ),
        ({"User": ""}, changed(user="2001", info={"UserId": "UserId=2001"})),
        ({"User": "nobody"}, changed(user="2001", info={"UserId": "UserId=2001"})),
        (
            {"TimelimitRaw": "UNLIMITED"},
            changed(time_limit_s=None, info={"TimeLimitMinutes": "TimeLimitMinutes=UNLIMITED"}),
        ),
        (
            {"TimelimitRaw": "Partition_Limit"},
            changed(time_limit_s=None, info={"TimeLimitMinutes": "TimeLimitMinutes=UNLIMITED"}),
        ),
        (
            {"AllocTRES": "cpu=8,mem=62.50G,gres/gpu:a100=1,gres/gpu:h100=2"},
            changed(
                gpus=3,
                memory_mb=64_000,
                info={"TRES": "TRES=cpu=8,mem=62.50G,gres/gpu:a100=1,gres/gpu:h100=2"},
            ),
        ),
        ({"Cluster": ""}, changed()),
    ],
)
def test_each_kind_of_row_is_read_whole(row: dict[str, str], expected: tuple[Accounted, ...]) -> None:
    assert parse(text(row)) == expected


@pytest.mark.parametrize(
    "row",
    [
        {"State": "PENDING", "Start": "Unknown", "End": "Unknown", "NodeList": "None assigned"},
        {"State": "CANCELLED by 2001", "Start": "Unknown", "NodeList": "None assigned"},
        {"State": "CANCELLED by 2001", "Start": "None", "NodeList": "n1"},
        {"State": "CANCELLED by 2001", "Start": str(T), "End": str(T), "NodeList": "None assigned"},
        {"State": "CANCELLED by 2001", "Start": str(T), "End": str(T), "NodeList": ""},
        {"State": "FAILED", "Start": "0", "NodeList": "n1"},
        {"State": "FAILED", "Start": "4294967294", "NodeList": "n1"},
        {"JobID": "9_[3-7]", "State": "CANCELLED by 2001", "Start": "Unknown", "NodeList": "None assigned"},
    ],
)
def test_what_never_started_is_no_run(row: dict[str, str]) -> None:
    assert parse(text(row, {})) == (Accounted(RUN, T + 65),)


@pytest.mark.parametrize(
    "row", [{"JobIDRaw": "x"}, {"JobIDRaw": ""}, {"JobIDRaw": "0"}, {"NodeList": "n[2-1]"}]
)
def test_a_malformed_record_is_left_out_and_said(
    row: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert parse(text(row, {})) == (Accounted(RUN, T + 65),)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("state", "end", "ended"),
    [
        ("COMPLETED", T, True),
        ("REQUEUED", T, True),
        ("BRAND_NEW", T, True),
        ("COMPLETED", 0, False),
        ("RUNNING", T, False),
        ("SUSPENDED", T, False),
        ("PENDING", T, False),
        ("RESIZING", T, False),
    ],
)
def test_a_run_has_ended_by_its_end_and_its_word(state: str, end: int, ended: bool) -> None:
    assert piece(state, T - 9, end).has_ended is ended


def test_records_of_other_clusters_are_dropped() -> None:
    other = {"Cluster": "alpha", "JobIDRaw": "5"}
    assert parse(text(other, {})) == (Accounted(RUN, T + 65),)
    with pytest.raises(ShapeError, match="several clusters"):
        parse(text(other, {"Cluster": "beta"}))


def test_a_requeued_job_has_a_run_for_each_start() -> None:
    first = {"State": "REQUEUED", "Start": str(T + 5), "End": str(T + 65)}
    second = {"Submit": str(T + 65), "Start": str(T + 200), "End": str(T + 300)}
    runs = accounting.whole_runs(parse(text(second, first)))
    assert [(r.key.start_time, r.run.state, r.end_time) for r in runs] == [
        (T + 5, "REQUEUED", T + 65),
        (T + 200, "COMPLETED", T + 300),
    ]


def test_three_pieces_of_a_resized_run_are_one_run_with_the_first_start_and_nodes() -> None:
    pieces = [
        piece("RESIZING", T + 5, T + 20),
        piece("RESIZING", T + 20, T + 40, node_list="n1", allocations=(Allocation("n1"),), cpus=4),
        piece(
            "TIMEOUT", T + 40, T + 65, node_list="n2", allocations=(Allocation("n2"),), opted_out_by="no_sync"
        ),
    ]
    whole = (piece("TIMEOUT", T + 5, T + 65, opted_out_by="no_sync"),)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        assert accounting.whole_runs([pieces[at] for at in order]) == whole


def test_the_opt_out_of_an_earlier_piece_stays_in_force() -> None:
    pieces = piece("RESIZING", T + 5, T + 20, opted_out_by="no_sync"), piece("COMPLETED", T + 20, T + 65)
    assert accounting.whole_runs(pieces) == (piece("COMPLETED", T + 5, T + 65, opted_out_by="no_sync"),)


def test_a_piece_that_goes_on_is_no_run_yet() -> None:
    assert accounting.whole_runs([piece("RESIZING", T + 5, T + 20)]) == ()


def test_only_what_begins_where_a_piece_ends_joins_it() -> None:
    later = piece("COMPLETED", T + 21, T + 65)
    assert accounting.whole_runs([piece("RESIZING", T + 5, T + 20), later]) == (later,)
    requeued = piece("COMPLETED", T + 20, T + 65, submit_time=T + 20)
    assert accounting.whole_runs([piece("RESIZING", T + 5, T + 20), requeued]) == (requeued,)
    other = piece("COMPLETED", T + 20, T + 65, key=RunKey(CLUSTER, 4712, T + 20))
    assert accounting.whole_runs([piece("RESIZING", T + 5, T + 20), other]) == (other,)


def test_a_record_that_two_answers_hold_counts_once() -> None:
    assert accounting.whole_runs([piece("COMPLETED", T + 5, T + 65)] * 2) == (
        piece("COMPLETED", T + 5, T + 65),
    )


def test_a_requeued_run_whose_start_slurm_lost_is_kept_as_such() -> None:
    (record,) = parse(text({"State": "REQUEUED", "Start": "Unknown"}))
    assert (record.key.start_time, record.end_time, record.has_ended) == (0, T + 65, True)


@pytest.mark.parametrize("recorded", [r for r in ALL if r.release != "21.08"], ids=str)
def test_the_text_of_a_recording_gives_the_same_runs_as_its_json(recorded: Recorded) -> None:
    jobs = recorded.json("sacct.json")["jobs"]
    told = accounting_json.parse_json(recorded.read("sacct.json"), CLUSTER)
    assert parse(accounting_text(jobs, SEP)) == told
    assert len(told) > 10
