"""Slurm's JSON documents: whole or an error. Decodes and checks; what records mean is for the readers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import msgspec

from slurm import wire

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)
P = ParamSpec("P")

NOTHING_FOUND = 9003  # `sacct --json` up to 22.05 reports an empty answer as an error


class AnswerError(Exception):
    """An answer that is not whole: nothing may be concluded from it."""


class Document(msgspec.Struct):
    meta: Any = None
    errors: Any = None
    jobs: list[msgspec.Raw] | None = None
    nodes: list[msgspec.Raw] | None = None


def decode(answer: bytes, command: str) -> Document:
    """Raise AnswerError for half a document, and for `errors` (22.05 exits 0 while slurmctld is down)."""
    try:
        document = msgspec.json.decode(answer, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = _decode_repaired(answer, command)
    problem = _problem(document.errors)
    if problem:
        raise AnswerError(f"{command}: {problem}")
    return document


def _decode_repaired(answer: bytes, command: str) -> Document:
    """Once more, with bytes that are no UTF-8 replaced: users' names and comments hold any bytes.

    The standard library reads Infinity and NaN, which 24.05 up to .3 writes, and which are no JSON.
    """
    try:
        told = json.loads(answer.decode("utf-8", "replace"), parse_constant=lambda _: None)
        return msgspec.json.decode(msgspec.json.encode(told), type=Document)
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise AnswerError(f"{command}: not a whole JSON answer ({error})") from None


def _problem(errors: Any) -> str:
    """What the answer's own `errors` say; "" where there are none."""
    told = errors if isinstance(errors, list) else [errors] if errors else []
    found = [e for e in told if not (isinstance(e, dict) and e.get("error_number") == NOTHING_FOUND)]
    if not found:
        return ""
    first = found[0] if isinstance(found[0], dict) else {"error": str(found[0])}
    said = [str(first[key]) for key in ("source", "error", "description") if first.get(key)]
    return wire.printable(": ".join(said) or "errors without text")


def head_cluster(meta: Any) -> str:
    """Slurm's own name for its cluster, as the answer's head has it from 23.11 on."""
    head = meta if isinstance(meta, dict) else {}
    slurm = head.get("slurm") or head.get("Slurm") or {}
    return str(slurm.get("cluster") or "") if isinstance(slurm, dict) else ""


def records(raw: list[msgspec.Raw] | None, kind: type[R], command: str) -> list[R]:
    """Each entry decoded by itself, so that one malformed record costs only itself."""
    if raw is None:
        raise AnswerError(f"{command}: the answer has no list of records")
    decoder = msgspec.json.Decoder(kind)
    found: list[R] = []
    for entry in raw:
        try:
            found.append(_decode_record(decoder, entry))
        except msgspec.DecodeError as error:
            log.warning("%s: a malformed record is left out: %s", command, error)
    return found


def _decode_record(decoder: msgspec.json.Decoder[R], entry: msgspec.Raw) -> R:
    """`decode` has passed over the records without reading them, so theirs may be no UTF-8 still."""
    try:
        return decoder.decode(entry)
    except UnicodeDecodeError:
        return decoder.decode(bytes(entry).decode("utf-8", "replace"))


def unless_malformed(
    command: str, name: Any, parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> list[T]:
    """What `parse` makes of a record, or nothing where its shape is none that Slurm is known to give."""
    try:
        return [parse(*args, **kwargs)]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        log.warning("%s: record %s is malformed and left out: %s", command, wire.printable(str(name)), error)
        return []
