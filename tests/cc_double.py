"""A test double of cc-backend 1.2.2, 1.4.4 or 1.5.4 on loopback, with faults on demand.

    with CcDouble("1.5.4", clusters) as double:
        double.fault("POST /api/jobs/start_job/", status=502, taken=True)  # the next start's answer is lost

Here are the server and the faults; what is answered is in cc_routes.py, cc_rules.py and cc_bodies.py, and
test_cc_double.py holds it against recordings of real servers. Left out: compressed answers (but for 1.4's
plain refusals), the archiving of ended jobs, the web pages, and the routes of cc_routes.UNMODELLED, which
answer 501 so that a test cannot take them for the real thing.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cc_routes
from cc_bodies import RELEASES, Record
from cc_routes import Answer, Request
from cc_rules import Store


@dataclass
class Fault:
    """What happens to requests instead of, or after, their being carried out; see CcDouble.fault."""

    match: str
    status: int | None
    body: bytes
    headers: Mapping[str, str]
    times: int
    taken: bool
    hang_s: float
    reset: bool
    slow_bytes_s: float
    job_id: int | None
    hits: int = 0

    def strikes(self, name: str, content: Any) -> bool:
        job_id = content.get("jobId") if isinstance(content, dict) else None
        return self.times != 0 and self.match in name and self.job_id in (None, job_id)


class CcDouble:
    """One server, with what it stored and what it was asked, for a test's assertions."""

    def __init__(
        self,
        version: str,
        clusters: list[Record],
        *,
        clock: Callable[[], float] = time.time,
        token: str = "good",  # noqa: S107 no secret: the double asks for it itself
        commit_after_s: float | None = 120.0,
    ) -> None:
        """`commit_after_s` is the time between two runs of 1.5's commit worker; None: only commit_cache()."""
        self.version, self.token = version, token
        self.store = Store(RELEASES[version], clusters, clock, commit_after_s)
        self.requests: list[tuple[str, str, Any]] = []
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> CcDouble:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.connections):  # kept-alive ones, whose threads would wait for ever
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def jobs(self) -> list[Record]:
        """Every stored job, listed ones first: the start's body with id, subCluster, jobState, stopTime …"""
        with self._lock:
            cached = self.cached  # first, as asking for it moves what is due
            return [*self.store.listed.rows.values(), *cached]

    @property
    def cached(self) -> list[Record]:
        """The jobs that no list shows yet."""
        with self._lock:
            self.store.tick()
            return list(self.store.cache.rows.values())

    @property
    def node_states(self) -> list[Record]:
        """The bodies sent to nodestate, oldest first."""
        return self.store.node_states

    def commit_cache(self) -> None:
        with self._lock:
            self.store.commit_cache()

    def fault(
        self,
        match: str,
        *,
        status: int | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        times: int = 1,
        taken: bool = False,
        hang_s: float = 0.0,
        reset: bool = False,
        slow_bytes_s: float = 0.0,
        job_id: int | None = None,
    ) -> Fault:
        """Disturb the next `times` requests (-1: all) whose "METHOD path?query" contains `match`.

        With `job_id` only those whose body names that job. `taken` carries the request out first, so only its
        answer suffers; without it nothing is stored. Then comes a wait of `hang_s`; then a reset, or `status`
        with `body`, or, where the request was taken and had to wait, its true answer, or none: the connection
        is closed. `slow_bytes_s` sends a body byte by byte with that pause; alone it carries the request out.
        """
        how = (dict(headers or {}), times, taken or (slow_bytes_s > 0 and status is None), hang_s)
        fault = Fault(match, status, body, *how, reset, slow_bytes_s, job_id)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def receive(self, request: Request) -> Fault | None:
        """Note a request down and give the fault that strikes it, if any."""
        content = _content(request.body)
        with self._lock:
            self.requests.append((request.method, request.path, content))
            name = f"{request.method} {request.path}"
            fault = next((fault for fault in self._faults if fault.strikes(name, content)), None)
            if fault is not None:
                fault.times -= fault.times > 0
                fault.hits += 1
            return fault

    def answer(self, request: Request) -> Answer:
        """One at a time, as the real servers write."""
        with self._lock:
            self.store.tick()
            return cc_routes.answer(self.store, self.token, request)


def _content(body: bytes) -> Any:
    """A body as a test wants to see it: what its JSON says, None for none, else the bytes."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, double: CcDouble) -> None:
        self.double = double
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer leave in one packet

    def setup(self) -> None:
        super().setup()
        self.double = self.server.double
        self.double.connections.add(self.connection)

    def finish(self) -> None:
        self.double.connections.discard(self.connection)
        with suppress(OSError):  # the client has gone
            super().finish()

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.title(): value for key, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        fault = self.double.receive(request)
        if fault is None:
            self.send(self.double.answer(request))
        else:
            self.suffer(fault, request)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def suffer(self, fault: Fault, request: Request) -> None:
        answer = self.double.answer(request) if fault.taken else None
        self.double.closing.wait(fault.hang_s)
        if fault.reset:
            self.reset()
        elif fault.status is not None:
            self.send(Answer(fault.status, fault.body, tuple(fault.headers.items())), fault.slow_bytes_s)
        elif answer is not None and (fault.hang_s or fault.slow_bytes_s):
            self.send(answer, fault.slow_bytes_s)
        else:
            self.close_connection = True

    def send(self, answer: Answer, slow_bytes_s: float = 0.0) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if not slow_bytes_s:
            self.wfile.write(answer.body)
            return
        for place in range(len(answer.body)):
            self.wfile.flush()
            if self.double.closing.wait(slow_bytes_s):
                return
            self.wfile.write(answer.body[place : place + 1])

    def reset(self) -> None:
        """Close without the usual goodbye, so that the client gets ECONNRESET."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.double.connections.discard(self.connection)
        os.close(self.connection.detach())
