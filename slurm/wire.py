"""Slurm's many shapes of number, text and list → int, str, tuple. Pure.

Numbers come plain (up to 22.05), as `{set, infinite, number}` (from 23.02) or as text; lists as a list
or as one text; the value for "not set" may be null, {}, "", a NO_VAL number or a missing key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

# NO_VAL and INFINITE of 32 and 64 bits (slurm.h). Those of 16 bits (65,534 and 65,535) are job ids and
# memory sizes like any other; Slurm's JSON gives null or `{set: false}` for its 16-bit fields.
_NO_NUMBER = frozenset({0xFFFFFFFE, 0xFFFFFFFF, 2**64 - 2, 2**64 - 1})
_NO_TEXT = frozenset({"(null)", "N/A", "None assigned", "Unknown", "NONE", "None"})

# squeue's text prints the first of these flags instead of the base state (job_state_string in
# slurm_protocol_defs.c).
_FLAGS_FIRST = (
    "COMPLETING",
    "STAGE_OUT",
    "CONFIGURING",
    "EXPEDITING",
    "RESIZING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "STOPPED",
    "REVOKED",
    "RESV_DEL_HOLD",
    "SIGNALING",
)
_SAME_AS = {"STAGE_OUT": "COMPLETING", "SIGNALING": "RUNNING", "RESIZING": "RUNNING"}

_QUANTITY = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)([KMGTP]?)")
_SCALE = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


class ShapeError(ValueError):
    """A value that no release of Slurm is known to give."""


def number(value: Any) -> int | None:
    """An int in any of its shapes; None: not set, or without end."""
    if isinstance(value, dict):
        if not value.get("set") or value.get("infinite"):
            return None
        value = value.get("number")
    if isinstance(value, str):
        return _number_in(value)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return _plain(value)
    raise ShapeError(f"expected a number, got {type(value).__name__}")


def _plain(value: float) -> int | None:
    if value != value or value in (float("inf"), float("-inf")):
        return None
    whole = int(value)
    return None if whole in _NO_NUMBER or whole < 0 or whole != value else whole


def _number_in(value: str) -> int | None:
    """`12`, or `2K` for 2,048: squeue's text shortens exact multiples of 1,024."""
    if value.isdecimal() and value.isascii() and len(value) <= 30:  # nearly all, and quicker
        whole = int(value)
        return None if whole in _NO_NUMBER else whole
    match = _QUANTITY.fullmatch(value)
    if match is None:
        return None
    count = float(match[1]) if "." in match[1] else int(match[1])
    return _plain(count * 1024 ** _SCALE[match[2]])


def job_id(value: Any) -> int:
    """Raise ShapeError where there is none: a record without it is nobody's."""
    found = number(value)
    if not found:
        raise ShapeError("no job id")
    return found


def text(value: Any) -> str:
    """Text; "" where Slurm says in one of its ways that there is none."""
    if value is None or value == {} or value == []:
        return ""
    if not isinstance(value, str):
        raise ShapeError(f"expected text, got {type(value).__name__}")
    return "" if value in _NO_TEXT else value


def name(value: Any) -> str:
    """Text that its owner chose: `N/A` is a name like any other."""
    return value if isinstance(value, str) else ""


def words(value: Any) -> tuple[str, ...]:
    """A list of words, or one text of words, in upper case."""
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[,+ ]+", value.upper()) if part)
    if isinstance(value, (list, tuple)):
        return tuple(str(part).upper() for part in value)
    return ()


def state_word(value: Any) -> str:
    """A job's state as the one word that squeue's text gives; `CANCELLED by 1000` is CANCELLED."""
    if isinstance(value, str):
        return _same(value.split(" ")[0])
    found = words(value)
    for flag in _FLAGS_FIRST:
        if flag in found:
            return _same(flag)
    return _same(found[0]) if found else ""


def _same(word: str) -> str:
    return _SAME_AS.get(word, word)


def tres(value: str) -> dict[str, str]:
    """`cpu=4,mem=2000M,gres/gpu:a100=2` → its parts."""
    return dict(part.split("=", 1) for part in value.split(",") if "=" in part)


def gpus_in_tres(parts: dict[str, str]) -> int:
    """The untyped entry counts all cards; only where it is missing the typed ones are summed."""
    if "gres/gpu" in parts:
        return number(parts["gres/gpu"]) or 0
    return sum(number(count) or 0 for name, count in parts.items() if name.startswith("gres/gpu:"))


def memory_mb(value: str) -> int:
    """`125G`, `2000M`, `62.50G` → MiB; a bare number is MiB. 0: not told."""
    match = _QUANTITY.fullmatch(value)
    if match is None:
        return 0
    power = _SCALE[match[2]] if match[2] else _SCALE["M"]
    return int(float(match[1]) * 1024.0 ** (power - _SCALE["M"]))


# For these squeue's text has a sentence (state_desc), its JSON the word (job_mgr.c, job_scheduler.c).
_REASON_SENTENCES = (
    ("job requeued in ", "JobHeldUser"),
    ("launch failed requeued held", "JobHeldUser"),
    ("user env retrieval failed requeued held", "JobHeldUser"),
    ("launch failure limit exceeded requeued held", "JobHoldMaxRequeue"),
    ("Nodes required for job are ", "Resources"),
)


def reason_word(value: str) -> str:
    """`ReqNodeNotAvail, UnavailableNodes:n1` → `ReqNodeNotAvail`; brackets go, and a sentence is its word."""
    for sentence, word in _REASON_SENTENCES:
        if value.startswith(sentence):
            return word
    return re.split(r"[,\s(;]", value.strip("()"), maxsplit=1)[0]


def user_name(name: str, uid: Any) -> str:
    """The user's name; an unknown uid prints as `nobody` or as nothing: then the number stands for it."""
    number_of = number(uid)
    if name and (name != "nobody" or number_of in (None, 65534)):
        return name
    return str(number_of) if number_of is not None else name


def own_cluster(told: str, seen: Collection[str], configured: str) -> str:
    """Slurm's own name for this cluster, which the targets may know under another one.

    `told` is what the answer's head says (from 23.11). Raise ShapeError where records of several
    clusters give no way to tell which are ours.
    """
    if told:
        return told
    names = {name for name in seen if name}
    if configured in names or not names:
        return configured
    if len(names) == 1:
        return names.pop()
    raise ShapeError(f"records of several clusters ({', '.join(sorted(names))}), none of them {configured}")


def has_opt_out(comment: str, word: str) -> bool:
    """Whether the opt-out word stands in a comma-separated comment, as an entry of its own."""
    return bool(word) and word in (part.strip() for part in comment.split(","))


def printable(value: str) -> str:
    """One line of text that moves no cursor."""
    return "".join(c if c.isprintable() else " " for c in value)


def info_lines(pairs: Iterable[tuple[str, Any]]) -> str:
    """`Key=Value` lines for people; empty values are left out, none can break its line."""
    return "\n".join(f"{key}={printable(str(value))}" for key, value in pairs if value not in (None, ""))
