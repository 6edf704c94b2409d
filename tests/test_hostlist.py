"""Host lists against ClusterShell's NodeSet, and the order that NodeSet does not keep."""

from __future__ import annotations

import pytest
from ClusterShell.NodeSet import NodeSet
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm.hostlist import MAX_HOSTS, HostlistError, expand

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        ("n1", ("n1",)),
        ("login", ("login",)),
        ("n2cn[002-003]", ("n2cn002", "n2cn003")),
        ("n2dgx01,n2gpu02", ("n2dgx01", "n2gpu02")),
        ("b3,a1", ("b3", "a1")),
        ("n[3,1-2]", ("n3", "n1", "n2")),
        ("n[8-11]", ("n8", "n9", "n10", "n11")),
        ("n[08-11]", ("n08", "n09", "n10", "n11")),
        ("n[1,01]", ("n1", "n01")),
        ("rack-1.n[1-2]-ib.example.org", ("rack-1.n1-ib.example.org", "rack-1.n2-ib.example.org")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("n[1-2],m[5,7],x", ("n1", "n2", "m5", "m7", "x")),
        ("n1,,n2,", ("n1", "n2")),
    ],
)
def test_a_host_list_is_expanded_in_its_own_order(text: str, hosts: tuple[str, ...]) -> None:
    assert expand(text) == hosts


@pytest.mark.parametrize(
    "text",
    [
        "n[1-2",
        "n1-2]",
        "n[[1-2]]",
        "n]1[",
        "n[3-1]",
        "n[a-b]",
        "n[1-]",
        "n[-1]",
        "n[]",
        "n[1,,2]",
        "n[1-2-3]",
        "n[٣-٤]",
        f"n[1-{MAX_HOSTS + 1}]",
        "n[1-99999999999999999999]",
        "n[1-" + "9" * 5000 + "]",
        "n[0-999]x[0-999]y[0-999]",
    ],
)
def test_text_that_is_no_host_list_is_an_error(text: str) -> None:
    with pytest.raises(HostlistError):
        expand(text)


def test_several_absurd_lists_share_one_bound() -> None:
    with pytest.raises(HostlistError):
        expand(f"n[1-{MAX_HOSTS - 10}],m[1-20]")


def _spans(width: int) -> st.SearchStrategy[str]:
    """`7`, `3-9` or, from width 2 on, padded like `007-012`."""

    def span(first: int, more: int) -> str:
        return "-".join(str(n).zfill(width) for n in ((first, first + more) if more else (first,)))

    return st.builds(span, st.integers(0, 80), st.integers(0, 15))


BRACKETS = st.integers(1, 3).flatmap(
    lambda width: st.lists(_spans(width), min_size=1, max_size=3).map(lambda spans: f"[{','.join(spans)}]")
)
NAMES = st.text("abcxyz", min_size=1, max_size=4)
PATTERNS = st.builds(
    lambda name, parts, tail: name + "".join(parts) + tail,
    NAMES,
    st.lists(st.builds(lambda bracket, name: bracket + name, BRACKETS, NAMES), max_size=2),
    st.sampled_from(["", "1", "7x", "-ib", ".example.org"]),
)
HOSTLISTS = st.lists(PATTERNS, min_size=1, max_size=4).map(",".join)


@PROPERTY
@given(HOSTLISTS)
def test_a_host_list_holds_the_same_hosts_as_for_clustershell(text: str) -> None:
    assert set(expand(text)) == {str(host) for host in NodeSet(text)}


@PROPERTY
@given(st.lists(PATTERNS, max_size=4))
def test_the_order_is_that_of_the_list(patterns: list[str]) -> None:
    assert expand(",".join(patterns)) == tuple(host for pattern in patterns for host in expand(pattern))


@PROPERTY
@given(st.text("n0123456789[]-,x"))
def test_any_text_is_a_host_list_or_an_error(text: str) -> None:
    try:
        hosts = expand(text)
    except HostlistError:
        return
    assert not any(mark in host for host in hosts for mark in "[],")
    assert all(hosts)
