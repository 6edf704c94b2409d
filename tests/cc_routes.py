"""Which request leads where in cc-backend 1.2.2, 1.4.4 and 1.5.4, for the test double in cc_double.py.

Routes, redirects, tokens, and the form in which each release says no. A request is method, path, headers and
body, its answer a value; the sockets are in cc_double.py, what is done with a job in cc_rules.py.
"""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import cc_bodies as bodies
from cc_bodies import Refusal, Release
from cc_rules import Store

TEXT = "text/plain; charset=utf-8"
LOGIN_PAGE = "<!DOCTYPE html>\n<html><title>Authentication failed - ClusterCockpit</title></html>\n"
UNMODELLED = re.compile(
    r"/api/(jobs/(delete_job|metrics/|tag_job/|used_nodes|stop_job/.|\d+$)|users?/|tags/|machine_state/)"
)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Call(NamedTuple):
    """A request that has found its route."""

    store: Store
    query: str
    body: bytes
    name: str  # of the path's {id}, else empty


class Route(NamedTuple):
    methods: tuple[str, ...]
    pattern: str
    act: Callable[[Call], Answer]
    since: Release = (1, 2)
    until: Release = (1, 5)


def as_json(status: int, content: Any, times_typed: int = 1) -> Answer:
    body = json.dumps(content).encode() + b"\n"
    return Answer(status, body, (("Content-Type", "application/json"),) * times_typed)


def _clusters(call: Call) -> Answer:
    asked = dict(parse_qsl(call.query, keep_blank_values=True)).get("cluster")
    found = [cluster for cluster in call.store.clusters if asked in (None, cluster["name"])]
    if asked is not None and not found:
        told = {"status": "Bad Request", "error": f"unknown cluster: {asked}"}
        return as_json(400, told, times_typed=2)
    return as_json(200, bodies.render_clusters(found))


def _nodes(call: Call) -> Answer:
    call.store.take_nodes(call.body)
    return Answer(200)


def _one_job(call: Call) -> Answer:
    """Only what a path that lost its last slash meets here; UNMODELLED has the jobs by number."""
    told = f'strconv.ParseInt: parsing "{call.name}": invalid syntax'
    raise Refusal(400, f"integer expected in path for id: {told}")


def _edit(call: Call) -> Answer:
    return as_json(200, call.store.edit_meta(call.name, call.body))


def _edit_by_key(call: Call) -> Answer:
    return as_json(200, call.store.edit_meta_by_key(call.body))


ADD = ("POST", "PUT")
ROUTES = (
    Route(ADD, "/api/jobs/start_job/", lambda call: as_json(201, call.store.start(call.body))),
    Route(ADD, "/api/jobs/stop_job/", lambda call: as_json(200, call.store.stop(call.body))),
    Route(("GET",), "/api/jobs/", lambda call: as_json(200, call.store.list_jobs(call.query))),
    Route(("GET",), "/api/clusters/", _clusters, (1, 4)),
    Route(ADD, "/api/nodestate/", _nodes, (1, 5)),
    Route(("PATCH",), "/api/jobs/edit_meta/", _edit_by_key, (1, 5)),
    Route(("PATCH",), "/api/jobs/edit_meta/([^/]+)", _edit, (1, 4)),
    Route(("POST",), "/api/jobs/edit_meta/([^/]+)", _edit, (1, 4), until=(1, 4)),
    Route(("POST",), r"/api/jobs/([^/]*[^/\d][^/]*)", _one_job),
    Route(("GET",), r"/api/jobs/([^/]*[^/\d][^/]*)", _one_job, (1, 4)),
)


def answer(store: Store, token: str, request: Request) -> Answer:
    try:
        return _route(store, token, request)
    except Refusal as refusal:
        return _refuse(refusal, store.release)


def _route(store: Store, token: str, request: Request) -> Answer:
    """The first route that fits; up to 1.4 one that fits but for its last slash redirects there."""
    parts, allowed = urlsplit(request.path), list[str]()
    if UNMODELLED.match(parts.path):
        return as_json(501, {"error": f"the test double does not know {request.method} {parts.path}"})
    slashless = store.release < (1, 5)
    toggled = parts.path[:-1] if parts.path.endswith("/") else f"{parts.path}/"
    for route in ROUTES:
        exact = re.fullmatch(route.pattern, parts.path)
        fits = exact or (slashless and re.fullmatch(route.pattern, toggled))
        if not fits or not route.since <= store.release <= route.until:
            continue
        if request.method not in route.methods:
            allowed += route.methods
            continue
        _check_token(request.headers, token, store.release)
        if exact:
            return route.act(Call(store, parts.query, request.body, "".join(exact.groups())))
        return _moved(request.method, toggled, parts.query)
    if allowed and not slashless:
        return Answer(405, b"", tuple(("Allow", method) for method in allowed))
    return _not_found(store.release, request.headers)  # up to 1.4 the web pages' files are looked through too


def _check_token(headers: Mapping[str, str], token: str, release: Release) -> None:
    sent = headers.get("X-Auth-Token") or headers.get("Authorization", "").removeprefix("Bearer ")
    if sent == token:
        return
    if not sent:
        raise Refusal(401, "no user for secured check")
    old = release < (1, 4)
    reason = "token contains an invalid number of segments"
    if sent.count(".") == 2:
        reason = "invalid character 'i' looking for beginning of value"
        reason = reason if old else f"could not JSON decode header: {reason}"
    raise Refusal(401, reason if old else f"token is malformed: {reason}")


def _moved(method: str, path: str, query: str) -> Answer:
    target = f"{path}?{query}" if query else path
    if method != "GET":
        return Answer(301, b"", (("Location", target),))
    page = f'<a href="{html.escape(target)}">Moved Permanently</a>.\n\n'.encode()
    return Answer(301, page, (("Location", target), ("Content-Type", "text/html; charset=utf-8")))


def _not_found(release: Release, headers: Mapping[str, str]) -> Answer:
    if release >= (1, 5):
        told = "the requested endpoint does not exist"
        return as_json(404, {"error": told, "status": "Resource not found"})
    answer = _plain(404, "404 page not found")
    if release == (1, 4) and "gzip" in headers.get("Accept-Encoding", ""):
        # It compresses as asked to, but the file server's way out takes Content-Encoding away.
        return Answer(404, gzip.compress(answer.body), answer.headers)
    return answer


def _refuse(refusal: Refusal, release: Release) -> Answer:
    status, error = refusal.status, refusal.error
    if status == 401 and release < (1, 4):
        return Answer(401, LOGIN_PAGE.encode()) if error.startswith("no user") else _plain(401, error)
    if refusal.plain:
        return _plain(status, error)
    return as_json(status, {"status": HTTPStatus(status).phrase, "error": error})


def _plain(status: int, error: str) -> Answer:
    return Answer(status, f"{error}\n".encode(), (("Content-Type", TEXT),))
