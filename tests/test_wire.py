"""Slurm's shapes of number, text, list, state, TRES and memory, each as the releases write it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm import wire

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["set", "number"]), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (12, 12),
        (12.0, 12),
        ("12", 12),
        ("2K", 2048),
        ("1.50K", 1536),
        ("1M", 1_048_576),
        ({"set": True, "infinite": False, "number": 7}, 7),
        ({"set": True, "infinite": False, "number": 0}, 0),
        ({"set": True, "infinite": False, "number": "7"}, 7),
        (1_795_175_927, 1_795_175_927),
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_a_number_is_read_in_each_of_its_shapes(value: object, expected: int) -> None:
    assert wire.number(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "",
        True,
        "N/A",
        "NONE",
        "UNLIMITED",
        "Unknown",
        "12 cows",
        "12.5",
        12.5,
        "-1",
        "٣",
        -1,
        float("inf"),
        float("-inf"),
        float("nan"),
        {"set": False, "infinite": False, "number": 7},
        {"set": True, "infinite": True, "number": 7},
        {"set": True, "infinite": False, "number": None},
        {"set": True, "infinite": False},
        0xFFFFFFFE,
        0xFFFFFFFF,
        2**64 - 2,
        2**64 - 1,
        "4294967294",
        "18446744073709551614",
        "9" * 5000,
    ],
)
def test_a_number_that_is_not_set_is_none(value: object) -> None:
    assert wire.number(value) is None


@pytest.mark.parametrize("value", [65_534, 65_535, "65534", "65535"])
def test_what_16_bits_call_not_set_is_a_job_id_like_any_other(value: object) -> None:
    assert wire.number(value) == int(str(value))


@pytest.mark.parametrize("value", [[], [1], object()])
def test_a_number_in_no_known_shape_is_an_error(value: object) -> None:
    with pytest.raises(wire.ShapeError, match="expected a number"):
        wire.number(value)


@pytest.mark.parametrize("value", [None, {}, [], "", "(null)", "N/A", "None assigned", "Unknown", "None"])
def test_text_that_says_that_there_is_none_is_empty(value: object) -> None:
    assert wire.text(value) == ""


def test_text_is_kept_as_it_is() -> None:
    assert wire.text(" normal ") == " normal "


@pytest.mark.parametrize("value", [1, True, ["x"], {"x": 1}])
def test_text_in_no_known_shape_is_an_error(value: object) -> None:
    with pytest.raises(wire.ShapeError, match="expected text"):
        wire.text(value)


def test_a_name_may_be_what_slurm_calls_nothing() -> None:
    assert [wire.name(value) for value in ("N/A", "(null)", "", None, 5)] == ["N/A", "(null)", "", "", ""]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["IDLE", "DRAIN"], ("IDLE", "DRAIN")),
        ("idle", ("IDLE",)),
        ("IDLE+DRAIN", ("IDLE", "DRAIN")),
        ("none, user", ("NONE", "USER")),
        ([], ()),
        ("", ()),
        (None, ()),
        (5, ()),
    ],
)
def test_words_come_as_a_list_or_as_one_text(value: object, expected: tuple[str, ...]) -> None:
    assert wire.words(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("RUNNING", "RUNNING"),
        ("CANCELLED by 123", "CANCELLED"),
        (["RUNNING"], "RUNNING"),
        (["CANCELLED", "COMPLETING"], "COMPLETING"),
        (["RUNNING", "CONFIGURING"], "CONFIGURING"),
        (["RUNNING", "CONFIGURING", "COMPLETING"], "COMPLETING"),
        (["PENDING", "REQUEUED"], "REQUEUED"),
        (["PENDING", "SPECIAL_EXIT", "REQUEUE_HOLD"], "REQUEUE_HOLD"),
        (["RUNNING", "STOPPED", "SIGNALING"], "STOPPED"),
        (["RUNNING", "POWER_UP_NODE"], "RUNNING"),
        (["RUNNING", "SIGNALING"], "RUNNING"),
        ("RESIZING", "RUNNING"),
        (["COMPLETED", "STAGE_OUT"], "COMPLETING"),
        (["BRAND_NEW_STATE"], "BRAND_NEW_STATE"),
        ([], ""),
        (None, ""),
    ],
)
def test_a_state_is_the_one_word_that_the_text_would_show(value: object, expected: str) -> None:
    assert wire.state_word(value) == expected


def test_tres_are_split_into_their_parts() -> None:
    assert wire.tres("cpu=4,mem=2000M,gres/gpu:a100=2,junk") == {
        "cpu": "4",
        "mem": "2000M",
        "gres/gpu:a100": "2",
    }


@pytest.mark.parametrize(
    ("tres", "gpus"),
    [
        ("cpu=4", 0),
        ("gres/gpu=4", 4),
        ("gres/gpu=3,gres/gpu:a100=1,gres/gpu:h100=2", 3),
        ("gres/gpu:a100=1,gres/gpu:h100=2", 3),
        ("gres/gpu=2K", 2048),
        ("gres/gpu=many", 0),
        ("gres/gpumem=80G,gres/fpga=1", 0),
    ],
)
def test_gpus_are_counted_once_where_typed_and_untyped_entries_stand(tres: str, gpus: int) -> None:
    assert wire.gpus_in_tres(wire.tres(tres)) == gpus


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("2000M", 2000),
        ("125G", 128_000),
        ("62.50G", 64_000),
        ("1T", 1_048_576),
        ("512K", 0),
        ("2048K", 2),
        ("2000", 2000),
        ("", 0),
        ("lots", 0),
        ("9" * 400 + "P", 0),
    ],
)
def test_memory_is_counted_in_mib(text: str, mib: int) -> None:
    assert wire.memory_mb(text) == mib


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Resources", "Resources"),
        ("(Priority)", "Priority"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "ReqNodeNotAvail"),
        ("ReqNodeNotAvail(Unavailable:n1)", "ReqNodeNotAvail"),
        ("Nodes required for job are DOWN", "Resources"),
        ("", ""),
    ],
)
def test_a_reason_is_its_word_alone(text: str, word: str) -> None:
    assert wire.reason_word(text) == word


@pytest.mark.parametrize(
    ("name", "uid", "expected"),
    [
        ("ada", 2001, "ada"),
        ("ada", None, "ada"),
        ("nobody", 2001, "2001"),
        ("nobody", "2001", "2001"),
        ("nobody", 65_534, "nobody"),
        ("nobody", None, "nobody"),
        ("", 2001, "2001"),
        ("", {"set": True, "infinite": False, "number": 0}, "0"),
        ("", None, ""),
    ],
)
def test_an_unknown_user_is_called_by_the_number(name: str, uid: object, expected: str) -> None:
    assert wire.user_name(name, uid) == expected


@pytest.mark.parametrize(
    ("told", "seen", "own"),
    [
        ("alpha", {"beta"}, "alpha"),
        ("", {"noctua", "beta"}, "noctua"),
        ("", {"alpha"}, "alpha"),
        ("", {"alpha", ""}, "alpha"),
        ("", {""}, "noctua"),
        ("", set(), "noctua"),
    ],
)
def test_our_cluster_is_told_by_the_head_the_records_or_the_configuration(
    told: str, seen: set[str], own: str
) -> None:
    assert wire.own_cluster(told, seen, "noctua") == own


def test_records_of_foreign_clusters_alone_are_an_error() -> None:
    with pytest.raises(wire.ShapeError, match=r"several clusters \(alpha, beta\), none of them noctua"):
        wire.own_cluster("", {"beta", "alpha"}, "noctua")


@pytest.mark.parametrize(
    ("comment", "opted_out"),
    [
        ("no_sync", True),
        ("other, no_sync ,more", True),
        ("no_syncing", False),
        ("do no_sync", False),
        ("NO_SYNC", False),
        ("", False),
    ],
)
def test_the_opt_out_word_is_an_entry_of_its_own(comment: str, opted_out: bool) -> None:
    assert wire.has_opt_out(comment, "no_sync") is opted_out


def test_without_an_opt_out_word_nobody_opts_out() -> None:
    assert not wire.has_opt_out("", "")


def test_printable_text_moves_no_cursor() -> None:
    assert wire.printable("a\x1b[2Jb\nc\r\x00d\u202ee 中") == "a [2Jb c  d e 中"


def test_an_info_line_cannot_be_broken_and_an_empty_one_is_left_out() -> None:
    pairs = (("JobId", 5), ("JobName", "x\nUserId=root"), ("QOS", ""), ("Account", None), ("Restarts", 0))
    assert wire.info_lines(pairs) == "JobId=5\nJobName=x UserId=root\nRestarts=0"


@PROPERTY
@given(JSON)
def test_any_json_value_is_read_or_refused_but_never_crashes(value: Any) -> None:
    for read in (wire.number, wire.text):
        try:
            read(value)
        except wire.ShapeError:
            continue
    wire.words(value)
    assert isinstance(wire.state_word(value), str)


@PROPERTY
@given(st.integers(0, 2**70))
def test_a_number_and_its_text_are_read_alike(value: int) -> None:
    assert wire.number(value) == wire.number(str(value)) == wire.number({"set": True, "number": value})
