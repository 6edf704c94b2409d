"""Bodies and queries as cc-backend 1.2.2, 1.4.4 and 1.5.4 read and write them, for the test double cc_double.

The strict decoder of what a client sends, in the words of Go's own, the shape of a job and of a cluster in an
answer, and the host lists of a cluster's configuration.
Pure; what the servers do with a body is in cc_rules.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias
from urllib.parse import parse_qsl

Record: TypeAlias = dict[str, Any]
Release: TypeAlias = tuple[int, int]
RELEASES: dict[str, Release] = {"1.2.2": (1, 2), "1.4.4": (1, 4), "1.5.4": (1, 5)}
OLD_STATES = frozenset(
    {"running", "completed", "failed", "cancelled", "stopped", "timeout", "preempted", "out_of_memory"}
)
NEW_STATES = OLD_STATES - {"stopped"} | {"node_fail", "boot_fail", "deadline", "suspended", "pending"}


class Refusal(Exception):
    """What the server answers instead of doing as it was asked."""

    def __init__(self, status: int, error: str, plain: bool = False) -> None:
        super().__init__(error)
        self.status, self.error, self.plain = status, error, plain


def states(release: Release) -> frozenset[str]:
    return NEW_STATES if release >= (1, 5) else OLD_STATES


@dataclass(frozen=True)
class Struct:
    """A Go struct; fields map to a Go type's name, to [shape] for a list, or to a Struct."""

    name: str
    fields: dict[str, Any]
    direct: frozenset[str] = frozenset()  # of JobMeta, which embeds BaseJob: the fields that are its own


_KEY = {"jobId": "int64", "startTime": "int64", "cluster": "string"}
PAIR = Struct("api.EditMetaRequest", {"key": "string", "value": "string"})
META = Struct("api.JobMetaRequest", {**_KEY, "payload": PAIR})
_COUNTS = dict.fromkeys(("cpusAllocated", "gpusAllocated", "jobsRunning"), "int")
_NODE = {"hostname": "string", "states": ["string"], "memoryAllocated": "int64", **_COUNTS}
_NODES = [Struct("schema.NodePayload", _NODE)]
NODES = Struct("api.UpdateNodeStatesRequest", {"nodes": _NODES, "cluster": "string"})
_HOST = {"hostname": "string", "configuration": "string", "hwthreads": ["int"], "accelerators": ["string"]}
_LIMITS = {"int": 2**63, "int64": 2**63, "int32": 2**31}
_JSON_WORDS = {bool: "bool", str: "string", int: "number", float: "number", list: "array", dict: "object"}


def tag_shape(release: Release) -> Struct:
    scope = {"scope": "string"} if release >= (1, 4) else {}
    return Struct("schema.Tag", {"type": "string", "name": "string", "id": "int64", **scope})


def stop_shape(release: Release) -> Struct:
    name = "api.StopJobAPIRequest" if release >= (1, 5) else "api.StopJobApiRequest"
    return Struct(name, {**_KEY, "stopTime": "int64", "jobState": "schema.JobState"})


@lru_cache
def job_shape(release: Release) -> Struct:
    """The body of a start. What only the server fills is not looked into."""
    fields: dict[str, Any] = {
        **dict.fromkeys(("cluster", "subCluster", "partition", "project", "user"), "string"),
        **dict.fromkeys(("jobId", "arrayJobId", "walltime", "startTime", "id"), "int64"),
        **dict.fromkeys(("numNodes", "numHwthreads", "numAcc", "smt", "duration"), "int32"),
        "monitoringStatus": "int32",
        **dict.fromkeys(("concurrentJobs", "statistics"), "any"),
        **{"jobState": "schema.JobState", "tags": [tag_shape(release)], "metaData": "map[string]string"},
        "resources": [Struct("schema.Resource", _HOST)],
    }
    if release >= (1, 4):
        fields.update(energyFootprint="map[string]float64", footprint="map[string]float64", energy="float64")
    if release >= (1, 5):
        fields.update(shared="string", submitTime="int64", requestedMemory="int64")
        return Struct("schema.Job", fields)
    fields["exclusive"] = "int32"
    return Struct("schema.JobMeta", fields, frozenset({"id", "startTime", "statistics"}))


def decode(body: bytes, shape: Any, prefix: str = "parsing request body failed: ") -> Any:
    """The first JSON value of a body as Go's strict decoder takes it; null counts as left out."""
    try:
        return _take(_parse(body.decode(errors="replace").lstrip()), shape, ("", ""))
    except ValueError as error:
        raise Refusal(400, f"{prefix}{error}") from None


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _parse(text: str) -> Any:
    try:
        return json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)[0]
    except json.JSONDecodeError as error:
        if not text:
            raise ValueError("EOF") from None
        if error.pos >= len(text) or error.msg.startswith("Unterminated"):
            raise ValueError("unexpected EOF") from None
        raise ValueError(f"invalid character {text[error.pos]!r} looking for beginning of value") from None


def _no_constant(word: str) -> NoReturn:
    if word.startswith("-"):
        raise ValueError("invalid character 'I' in numeric literal")
    raise ValueError(f"invalid character {word[0]!r} looking for beginning of value")


def _take(value: Any, shape: Any, where: tuple[str, str]) -> Any:
    """The value under the fields' own names; `where` is the holding struct and the path, for messages."""
    if value is None or shape == "any":
        return value
    if isinstance(shape, Struct):
        return _take_struct(_expect(value, dict, shape, where), shape, where[1])
    if isinstance(shape, list):
        return [_take(part, shape[0], where) for part in _expect(value, list, shape, where)]
    if shape.startswith("map[string]"):
        parts = _expect(value, dict, shape, where).items()
        return {key: _take(part, shape.removeprefix("map[string]"), where) for key, part in parts}
    return _take_scalar(value, shape, where)


def _take_struct(value: Record, shape: Struct, path: str) -> Record:
    taken: Record = {}
    names = {name.lower(): name for name in shape.fields}  # Go matches names whatever their case
    for key, part in value.items():
        name = names.get(key.lower())
        if name is None:
            raise ValueError(f"json: unknown field {quoted(key)}")
        base = "BaseJob." if shape.direct and name not in shape.direct else ""
        inner = (shape.name.partition(".")[2], f"{path}.{base}{name}".lstrip("."))
        if part is not None:
            taken[name] = _take(part, shape.fields[name], inner)
    return taken


def _take_scalar(value: Any, kind: str, where: tuple[str, str]) -> Any:
    limit = _LIMITS.get(kind)
    if limit is None and kind != "float64":
        return _expect(value, str, kind, where)
    number = _expect(value, (int, float), kind, where)
    if limit is not None and (isinstance(number, float) or not -limit <= number < limit):
        _mismatch(f"number {number}", kind, where)
    return number


def _expect(value: Any, kind: type | tuple[type, ...], shape: Any, where: tuple[str, str]) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        _mismatch(_JSON_WORDS[type(value)], shape, where)
    return value


def _mismatch(word: str, shape: Any, where: tuple[str, str]) -> NoReturn:
    place = f"struct field {where[0]}.{where[1]}" if where[0] else "value"
    raise ValueError(f"json: cannot unmarshal {word} into Go {place} of type {_go_type(shape)}")


def _go_type(shape: Any) -> str:
    if isinstance(shape, list):
        pointer = isinstance(shape[0], Struct) and shape[0].name != "schema.NodePayload"
        return f"[]{'*' * pointer}{_go_type(shape[0])}"
    return str(shape.name if isinstance(shape, Struct) else shape)


def render_job(job: Record, release: Release, now: float, metadata: bool) -> Record:
    """A job of a list, without the zeros Go leaves out; submit time and memory were never kept."""
    shown: Record = {
        **{key: job.get(key, "") for key in ("cluster", "subCluster", "project", "user", "jobState")},
        **{key: job.get(key, 0) for key in ("id", "jobId", "startTime", "numNodes")},
        "duration": _duration(job, release, now),
        "resources": [_without_zeros(host, keep=("hostname",)) for host in job["resources"]],
        "metaData": job.get("metaData") if metadata else None,
        "concurrentJobs": {"items": None, "count": 0},
        "statistics": None,
    }
    rare = ("partition", "arrayJobId", "numHwthreads", "numAcc", "monitoringStatus", "smt", "walltime")
    tags = [tag for tag in job["tags"] if tag.get("scope") != "admin"]  # hidden from the token's user
    shown.update(_without_zeros({**{key: job.get(key) for key in rare}, "tags": tags}))
    word = "shared" if release >= (1, 5) else "exclusive"
    shown[word] = job[word]
    if release >= (1, 4):
        shown.update(energyFootprint=None, footprint=job.get("footprint"), energy=job.get("energy", 0))
    return shown


def render_changed(job: Record, release: Release, now: float, metadata: bool = False) -> Record:
    """The one job a stop or an edit answers with: up to 1.4 it is another struct, its start in words."""
    shown = render_job({**job, "tags": []}, release, now, metadata)
    if release < (1, 5):
        del shown["statistics"]
        start = datetime.fromtimestamp(job["startTime"], timezone.utc)
        shown["startTime"] = start.strftime("%Y-%m-%dT%H:%M:%SZ")
    return shown


def _duration(job: Record, release: Release, now: float) -> int:
    """As kept, or counted while the job runs; 1.2 counts only what was sent without a duration."""
    if job["jobState"] != "running" or (release < (1, 4) and job["duration"]):
        return int(job["duration"])
    return int(now) - int(job["startTime"]) if release >= (1, 5) else int(now - job["startTime"])


def _without_zeros(record: Record, keep: tuple[str, ...] = ()) -> Record:
    return {key: value for key, value in record.items() if value or key in keep}


@lru_cache
def hosts(nodes: str) -> frozenset[str]:
    """The names of a host list such as `n2cn[0001-0990,0995],n2lcn01`."""
    return frozenset(name for term in re.split(r",(?![^\[]*\])", nodes) for name in _expand(term))


def _expand(term: str) -> Iterator[str]:
    head, bracket, rest = term.partition("[")
    if not bracket:
        yield head
        return
    ranges, _, tail = rest.partition("]")
    for part in ranges.split(","):
        low, _, high = part.partition("-")
        for number in range(int(low), int(high or low) + 1):
            yield from (f"{head}{number:0{len(low)}d}{end}" for end in _expand(tail))


def render_clusters(clusters: list[Record]) -> Record:
    """The clusters as configured; real servers add metrics to subclusters and drop what they do not know."""
    shown = []
    for cluster in clusters:
        subs = [{key: sub[key] for key in sub if key != "numberOfNodes"} for sub in cluster["subClusters"]]
        shown.append({**cluster, "subClusters": subs})
    return {"clusters": shown}


@dataclass
class Query:
    """What a list was asked for."""

    states: list[str] = field(default_factory=list)
    equal: dict[str, str] = field(default_factory=dict)
    span: tuple[int, int] | None = None
    items: int = 25
    page: int = 1
    metadata: bool = False


def parse_query(text: str, release: Release) -> Query:
    """The query of a list; unknown keys and words for numbers are refused, from 1.5 also pages below 1."""
    query, seen = Query(), set()
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key == "state":
            if value not in states(release):
                raise Refusal(400, "invalid query parameter value: state")
            query.states.append(value)
        elif key not in seen:  # of all others the first one counts
            _take_parameter(query, key, value, release)
        seen.add(key)
    return query


def _take_parameter(query: Query, key: str, value: str, release: Release) -> None:
    if key == "cluster" or (key == "project" and release >= (1, 5)):
        query.equal[key] = value
    elif key == "with-metadata":
        query.metadata = True
    elif key == "start-time":
        ends = value.split("-")
        if len(ends) != 2:
            raise Refusal(400, "invalid query parameter value: startTime")
        query.span = (parse_number(ends[0], "ParseInt"), parse_number(ends[1], "ParseInt"))
    elif key in ("page", "items-per-page"):
        number = parse_number(value, "Atoi")
        if number < 1 and release >= (1, 5):
            raise Refusal(400, f"{key} must be >= 1")
        setattr(query, "page" if key == "page" else "items", number)
    else:
        raise Refusal(400, f"invalid query parameter: {key}")


def parse_number(text: str, go_name: str) -> int:
    digits = re.fullmatch(r"[+-]?[0-9]+", text)
    if not digits or not -_LIMITS["int"] <= int(text) < _LIMITS["int"]:
        trouble = "value out of range" if digits else "invalid syntax"
        raise Refusal(400, f"strconv.{go_name}: parsing {quoted(text)}: {trouble}")
    return int(text)
