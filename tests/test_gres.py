"""Slurm's device texts: the grammar of gres.c, and that no text whatever yields an index that it lacks."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import RELEASES, Recorded

from model import Device, GpuCount
from slurm.gres import MAX_INDEX, Gres, devices, gpu_counts, parse_gres, parse_indexes

PROPERTY = settings(max_examples=250, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", ()),
        ("gpu", (Gres("gpu", "", 1, None),)),
        ("gpu:4", (Gres("gpu", "", 4, None),)),
        ("gpu:2(IDX:0-1)", (Gres("gpu", "", 2, (0, 1)),)),
        ("gpu:a100:1(IDX:0)", (Gres("gpu", "a100", 1, (0,)),)),
        ("gpu:a100:4(IDX:0,2-3,11)", (Gres("gpu", "a100", 4, (0, 2, 3, 11)),)),
        ("gpu:h200:0(IDX:)", (Gres("gpu", "h200", 0, ()),)),
        ("gpu:l40s:0(IDX:N/A)", (Gres("gpu", "l40s", 0, None),)),
        ("gpu:a100:2(S:0-1)", (Gres("gpu", "a100", 2, None),)),
        ("gpu:a100:8(S:0-1)(IDX:3)", (Gres("gpu", "a100", 8, (3,)),)),
        ("gpu:a100(CNT:2)", (Gres("gpu", "a100", 2, None),)),
        ("craynetwork(CNT:4)", (Gres("craynetwork", "", 4, None),)),
        ("gpu:a100:2:no_consume", (Gres("gpu", "a100", 2, None),)),
        ("gpu:a100:no_consume:2(IDX:1,3)", (Gres("gpu", "a100", 2, (1, 3)),)),
        ("bandwidth:lustre:4G", (Gres("bandwidth", "lustre", 4 * 1024**3, None),)),
        ("gpu:(null):2(IDX:0-1)", (Gres("gpu", "", 2, (0, 1)),)),
        ("gres/gpu:a100:2", (Gres("gpu", "a100", 2, None),)),
        ("gpu:a-b_c.d:1(IDX:10)", (Gres("gpu", "a-b_c.d", 1, (10,)),)),
        ("gpu:1g.10gb:1(IDX:3)", (Gres("gpu", "1g.10gb", 1, (3,)),)),
        (
            "gpu:a100:1(IDX:0),gpu:h100:2(IDX:4-5)",
            (Gres("gpu", "a100", 1, (0,)), Gres("gpu", "h100", 2, (4, 5))),
        ),
        (
            "gpu:2(IDX:0,2), fpga:u280:1(IDX:0)",
            (Gres("gpu", "", 2, (0, 2)), Gres("fpga", "u280", 1, (0,))),
        ),
        ("shard:3(IDX:0)", (Gres("shard", "", 3, (0,)),)),
        ("shard:l40s:5(3/4,0/4,2/4)", (Gres("shard", "l40s", 5, (0, 2)),)),
        ("shard:0(0/4,0/4)", (Gres("shard", "", 0, ()),)),
        (",:,(),gpu:1(IDX:0)", (Gres("gpu", "", 1, (0,)),)),
    ],
)
def test_the_grammar_is_read_whole(text: str, entries: tuple[Gres, ...]) -> None:
    assert parse_gres(text) == entries


@pytest.mark.parametrize(
    "text",
    [
        "gpu:a100:2(IDX:0-",
        "gpu:a100:2(IDX:0-1",
        "gpu:a100:2(IDX:1-0)",
        "gpu:a100:2(IDX:0,,1)",
        "gpu:a100:2(IDX:0-x)",
        "gpu:a100:2(IDX: 0)",
        "gpu:a100:2(IDX:-1)",
        "gpu:a100:2(IDX:٣)",
        f"gpu:a100:2(IDX:0-{MAX_INDEX})",
        "gpu:a100:2(IDX:" + "9" * 5000 + ")",
        "gpu:a100:2(3/4,1)",
        "gpu:a100:2(1,3/4)",
        "gpu:a100:2(3/4,)",
        "gpu:a100:2(/)",
        "gpu:a100:2(N/A)",
        "gpu:a100:2)",
    ],
)
def test_indexes_that_make_no_sense_are_not_told_and_the_count_stays(text: str) -> None:
    assert parse_gres(text) == (Gres("gpu", "a100", 2, None),)


@pytest.mark.parametrize(
    ("text", "indexes"),
    [
        ("", ()),
        ("0", (0,)),
        ("0,2-3", (0, 2, 3)),
        ("10-12", (10, 11, 12)),
        ("1,1,0-1", (1, 0)),
        (str(MAX_INDEX - 1), (MAX_INDEX - 1,)),
        (str(MAX_INDEX), None),
        ("x", None),
        ("1-", None),
        ("-1", None),
        (",", None),
        ("0-1-2", None),
    ],
)
def test_index_lists_are_told_whole_or_not_at_all(text: str, indexes: tuple[int, ...] | None) -> None:
    assert parse_indexes(text) == indexes


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("", ()),
        ("gpu:h200:0(IDX:)", ()),
        ("gpu:a100:2(IDX:1-2)", (Device("gpu", "a100", 2, (1, 2)),)),
        ("shard:3(IDX:0)", (Device("gpu", "", 1, (0,)),)),
        ("shard:l40s:3(3/4,0/4)", (Device("gpu", "l40s", 1, (0,)),)),
        ("shard:5(3/4,2/4)", (Device("gpu", "", 2, (0, 1)),)),
        ("shard:3", (Device("gpu", "", 1, None),)),
        ("shard:0(0/4)", ()),
        ("gpu:a100:1(IDX:0),shard:3(2/4,1/4)", (Device("gpu", "a100", 1, (0,)), Device("gpu", "", 1, (1,)))),
        ("gpu:a100:1(IDX:0),shard:3(3/4,0/4)", (Device("gpu", "a100", 1, (0,)),)),
        ("shard:a:1(IDX:0),shard:b:1(IDX:0-1)", (Device("gpu", "a", 1, (0,)), Device("gpu", "b", 1, (1,)))),
        ("fpga:u280:1(IDX:0)", (Device("fpga", "u280", 1, (0,)),)),
        (
            "gpu:3g.40gb:1(IDX:7),gpu:1g.10gb:1(IDX:3)",
            (Device("gpu", "3g.40gb", 1, (7,)), Device("gpu", "1g.10gb", 1, (3,))),
        ),
    ],
)
def test_shards_stand_for_the_cards_that_they_belong_to_each_card_once(
    text: str, held: tuple[Device, ...]
) -> None:
    assert devices(text) == held


@pytest.mark.parametrize(
    ("has", "used", "counts"),
    [
        ("", "", ()),
        ("", "gpu:0,fpga:0", ()),
        ("fpga:u280:2", "fpga:u280:1(IDX:0)", ()),
        ("gpu:2,fpga:u280:2", "gpu:1,fpga:u280:1(IDX:0)", (GpuCount("", 2, 1),)),
        (
            "gpu:a100:4(S:0),gpu:h100:4(S:1)",
            "gpu:a100:3(IDX:0-2),gpu:h100:2(IDX:4-5)",
            (GpuCount("a100", 4, 3), GpuCount("h100", 4, 2)),
        ),
        ("gpu:a100:2(S:0),gpu:a100:2(S:1)", "gpu:a100:3(IDX:0-2)", (GpuCount("a100", 4, 3),)),
        ("gpu:4", "gpu:(null):2(IDX:0-1)", (GpuCount("", 4, 2),)),
        ("gpu:4", "gpu:a100:3(IDX:0-2)", (GpuCount("", 4, 3),)),
        ("gpu:l40s:2,shard:8", "gpu:l40s:0(IDX:N/A),shard:l40s:5(3/4,2/4)", (GpuCount("l40s", 2, 2),)),
        ("gpu:a100:4", "gpu:a100:9(IDX:0-8)", (GpuCount("a100", 4, 4),)),
    ],
)
def test_cards_of_a_node_are_counted_by_type(has: str, used: str, counts: tuple[GpuCount, ...]) -> None:
    assert gpu_counts(has, used) == counts


WORDS = st.from_regex(r"[a-z][a-z0-9_.\-]{0,8}", fullmatch=True)
TYPES = st.just("") | WORDS | st.sampled_from(["3g.40gb", "a100-sxm4", "a_b", "1g.5gb+me"])
ENTRIES = st.builds(
    Gres,
    WORDS.filter(lambda name: name not in ("shard", "no_consume")),
    TYPES.filter(lambda kind: kind != "no_consume"),
    st.integers(0, 40),
    st.none() | st.sets(st.integers(0, 60)).map(lambda found: tuple(sorted(found))),
)


def render(entry: Gres) -> str:
    """As gres.c writes an entry: runs of indexes are folded."""
    text = ":".join(part for part in (entry.name, entry.type, str(entry.count)) if part)
    if entry.indexes is None:
        return text
    spans: list[str] = []
    for index in entry.indexes:
        if index - 1 not in entry.indexes:
            last = index
            while last + 1 in entry.indexes:
                last += 1
            spans.append(str(index) if last == index else f"{index}-{last}")
    return f"{text}(IDX:{','.join(spans)})"


@PROPERTY
@given(st.lists(ENTRIES, max_size=4), st.sampled_from([",", ", "]))
def test_what_slurm_would_write_is_read_back(entries: list[Gres], comma: str) -> None:
    assert parse_gres(comma.join(render(entry) for entry in entries)) == tuple(entries)


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=8), TYPES)
def test_shards_by_card_are_read_back(cards: list[tuple[int, int]], kind: str) -> None:
    held = sum(count for count, _ in cards)
    text = ":".join(part for part in ("shard", kind, str(held)) if part)
    text += "(" + ",".join(f"{count}/{total}" for count, total in cards) + ")"
    expected = tuple(card for card, (count, _) in enumerate(cards) if count)
    assert parse_gres(text) == (Gres("shard", kind, held, expected),)


def indexes_written_in(text: str) -> set[int]:
    """Every number that any span of digits in the text could mean, and every card a shard list could mean."""
    found = {int(number) for number in re.findall(r"[0-9]{1,9}", text)}
    for first, last in re.findall(r"([0-9]{1,9})-([0-9]{1,9})", text):
        found |= set(range(int(first), min(int(last), MAX_INDEX) + 1))
    return found | set(range(text.count("/")))


TEXTS = st.text() | st.text("gpushard:()IDX,-/0123456789 ") | st.from_regex(r"(gpu|shard)(:\w*)?:\d?\(.*\)")


@PROPERTY
@given(TEXTS)
def test_no_text_crashes_or_yields_an_index_that_does_not_stand_there(text: str) -> None:
    told = {index for entry in parse_gres(text) for index in entry.indexes or ()}
    told |= {index for device in devices(text) for index in device.indexes or ()}
    assert told <= indexes_written_in(text)
    gpu_counts(text, text)


@PROPERTY
@given(st.lists(ENTRIES, max_size=3), st.data())
def test_half_a_text_yields_no_index_that_the_whole_one_lacks(
    entries: list[Gres], data: st.DataObject
) -> None:
    text = ",".join(render(entry) for entry in entries)
    half = text[: data.draw(st.integers(0, len(text)))]
    whole = {index for entry in entries for index in entry.indexes or ()}
    assert {index for entry in parse_gres(half) for index in entry.indexes or ()} <= whole


@pytest.mark.parametrize("release", RELEASES)
def test_the_recorded_texts_are_read(release: str) -> None:
    jobs = {job["job_id"]: job["gres_detail"] for job in Recorded(release, "t0").json("squeue.json")["jobs"]}
    assert [devices(text) for job_id in (5, 6, 7, 8, 12) for text in jobs[job_id]] == [
        (Device("gpu", "a100", 1, (0,)),),
        (Device("gpu", "a100", 2, (1, 2)),),
        (Device("gpu", "a100", 1, (0,)), Device("gpu", "h100", 2, (4, 5))),
        (Device("gpu", "a100", 2, (1, 2)),),
        (Device("gpu", "a100", 2, (0, 1)),),
        (Device("gpu", "", 1, (0,)), Device("fpga", "u280", 1, (0,))),
    ]
