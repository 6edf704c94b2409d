"""HTTP to cc-backend's REST API: connections, retries, what an answer means for the target as a whole.

Which job goes where is clustercockpit.py's. The token is in a header and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import requests

from backends.base import Deadline, Secret, TargetError

FIRST_WAIT_S = 0.4  # at most; later ones grow
RETRY_BUDGET_S = 20.0  # of waiting, for each request
_SHOWN = 300  # characters of a refusal's text


class Reply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    is_json: bool

    def document(self) -> Any:
        """Its JSON. Raise TargetError: what stands there is not cc-backend."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise TargetError(f"answered {self.status} with something that is no JSON") from None

    def said(self) -> str:
        """The text of a refusal, printable and short: up to 1.4 an error's body may be any bytes."""
        try:
            document = msgspec.json.decode(self.body)
            text = str(document.get("error", "")) if isinstance(document, dict) else ""
        except (msgspec.DecodeError, UnicodeDecodeError):
            text = self.body[:_SHOWN].decode("utf-8", "replace") if self.is_json else ""
        return "".join(c if c.isprintable() else " " for c in text)[:_SHOWN]


class Busy(Exception):
    """A transient failure: no connection, no answer in time, or a server that says so."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Unanswered(TargetError):
    """A request that stayed without an answer, or got a transient failure's (`status`), each time."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Client:
    """A few connections, one for each thread that asks."""

    def __init__(self, host: str, token: Secret, timeout_s: float, ca_file: Path | None) -> None:
        self._base = host.rstrip("/")
        self._base = self._base.removesuffix("/api") + "/api"
        self._token, self._timeout_s, self._ca_file = token, timeout_s, ca_file
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def get(self, path: str, deadline: Deadline) -> Reply:
        return self._retried("GET", path, None, deadline)

    def post(self, path: str, body: bytes, deadline: Deadline) -> Reply:
        """Repeating is harmless: what was taken already is told apart by its refusal."""
        return self._retried("POST", path, body, deadline)

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    def _retried(self, method: str, path: str, body: bytes | None, deadline: Deadline) -> Reply:
        """Raise TargetError where the target cannot be served: not reachable, busy for too long, 401, 403."""
        budget = Deadline(min(RETRY_BUDGET_S, deadline.left_s()))
        try:
            reply = self._once(method, path, body, deadline)
        except Busy as error:
            reply = self._again(error, budget, lambda: self._once(method, path, body, deadline))
        if reply.status in (401, 403):
            raise TargetError(f"the token is refused ({reply.status}: {reply.said()}); is apikey right?")
        if 300 <= reply.status < 400:
            raise TargetError(f"{self._base} redirects ({reply.status}); configure the address it points to")
        return reply

    def _again(self, error: Busy, budget: Deadline, once: Callable[[], Reply]) -> Reply:
        """More attempts, with growing waits. Raise Unanswered when they or the budget are used up."""
        import tenacity  # a healthy pass does without

        failed = [error]

        def attempt() -> Reply:
            if failed:  # the first attempt has been made
                raise failed.pop()
            return once()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Busy),
            wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=5),
            stop=tenacity.stop_after_delay(budget.left_s()) | tenacity.stop_after_attempt(4),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except Busy as last:
            raise Unanswered(str(last), last.status) from None

    def _once(self, method: str, path: str, body: bytes | None, deadline: Deadline) -> Reply:
        left_s = deadline.left_s()
        if left_s <= 0:
            raise TargetError("the pass' time is over")
        timeout_s = min(self._timeout_s, left_s)
        try:
            answer = self._session().request(
                method, self._base + path, data=body, timeout=timeout_s, allow_redirects=False
            )
        except OSError as error:  # requests' own are some, and a CA file that is not there is one
            if not isinstance(error, requests.RequestException):
                raise TargetError(f"{self._base}: {error.strerror or error}") from None
            raise Busy(f"{self._base}: {_why(error, timeout_s)}") from None
        status, content = answer.status_code, answer.content
        if status == 429 or (status >= 500 and b"constraint failed" not in content):
            raise Busy(f"{self._base} answered {status}", status)
        if status != 200:
            content = content.replace(self._token.value.encode(), b"***")  # some proxies echo a request
        kind = answer.headers.get("Content-Type", "")
        return Reply(status, content, kind.startswith(("application/json", "text/plain")))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # Else a .netrc of the user would silently take the place of the token.
            session.trust_env = False
            session.verify = str(self._ca_file) if self._ca_file else True
            session.headers.update(
                {
                    "Authorization": f"Bearer {self._token.value}",
                    "Content-Type": "application/json",
                    "Accept": "application/json",
                }
            )
            self._local.session = session
            self._sessions.append(session)
        return session


def _why(error: requests.RequestException, timeout_s: float) -> str:
    """Without the request, whose headers hold the token."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate is not accepted (`ca_file` names the CA)"
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout_s:.0f} s"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__
