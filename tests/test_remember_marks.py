"""How far accounting is looked back, and where the mark stands afterwards."""

from __future__ import annotations

from itertools import pairwise

import pytest
from fake_source import NOW
from hypothesis import given
from hypothesis import strategies as st
from plan_data import key

import remember
from memory import BackendMemory

WEEK_S = 7 * 86400
TIMES = st.integers(1, 2 * NOW)


@pytest.mark.parametrize(
    ("mark", "window"),
    [
        (NOW - 60, (NOW - 660, NOW)),
        (NOW, (NOW - 600, NOW)),
        (NOW - 90_000, (NOW - 90_600, NOW - 3_600)),
        (NOW - 2 * WEEK_S, (NOW - WEEK_S - 600, NOW - WEEK_S + 86_400)),
        (None, (NOW - 5_600, NOW)),
        (NOW + 1, (NOW - 5_600, NOW)),
    ],
)
def test_a_window_begins_before_the_mark_and_is_a_day_at_most(
    mark: int | None, window: tuple[int, int]
) -> None:
    running = [key(1, NOW - 5_000), key(2, NOW - 10)]
    assert remember.window(BackendMemory(mark=mark), running, NOW, WEEK_S) == window


def test_the_window_of_an_empty_target_begins_now() -> None:
    assert remember.window(BackendMemory(), [], NOW, WEEK_S) == (NOW - 600, NOW)


@given(mark=st.none() | TIMES, start=TIMES, now=TIMES, longest=st.integers(0, WEEK_S))
def test_a_window_is_never_empty_and_never_leaves_its_bounds(
    mark: int | None, start: int, now: int, longest: int
) -> None:
    since, until = remember.window(BackendMemory(mark=mark), [key(1, start)], now, longest)
    assert now - longest - 600 <= since < until <= now
    assert until - since <= 86_400 + 600


def test_overlapping_windows_are_one_question() -> None:
    merge = remember.merge_windows
    assert merge([(50, 60), (10, 30), (20, 40), (40, 45)]) == [(10, 45), (50, 60)]
    assert merge([(10, 90), (20, 30)]) == [(10, 90)]
    assert merge([]) == []


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda p: (p[0], p[0] + p[1]))))
def test_merged_windows_cover_the_same_moments_and_do_not_touch(windows: list[tuple[int, int]]) -> None:
    merged = remember.merge_windows(windows)
    assert {t for a, b in merged for t in range(a, b + 1)} == {t for a, b in windows for t in range(a, b + 1)}
    assert all(first[1] < second[0] for first, second in pairwise(merged))


@pytest.mark.parametrize(
    ("mark", "until", "after"),
    [
        (None, NOW, NOW - 1),
        (100, NOW, NOW - 1),
        (100, NOW - 500, NOW - 500),
        (NOW - 1, NOW - 500, NOW - 1),
        (NOW + 1, NOW - 500, NOW - 500),
    ],
)
def test_the_mark_moves_to_the_end_of_what_was_read_and_never_back(
    mark: int | None, until: int, after: int
) -> None:
    part = BackendMemory(mark=mark)
    remember.move_mark(part, until, read_at=NOW)
    assert part.mark == after
