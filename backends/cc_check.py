"""`--check` of a cc-backend: reachable, version, rights, expiry of the token. Reads only."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Protocol

import msgspec

from backends.base import Facts, Finding, KnownRun, Secret, TargetError
from backends.cc_client import Client
from model import RunKey

SOON_S = 14 * 86_400


class _Ledger(Protocol):
    def read_running(self) -> dict[RunKey, KnownRun]: ...
    def read_facts(self, saved: None) -> Facts: ...


class _Claims(msgspec.Struct):
    exp: float | None = None
    roles: list[str] | None = None


def check(ledger: _Ledger, client: Client, token: Secret, cluster: str) -> Iterator[Finding]:
    yield from check_token(token, time.time())
    try:
        facts = ledger.read_facts(None)
        known = "1.3 or 1.4" if facts.version == "1.3" else facts.version
        yield Finding(True, f"reachable, version {known}, knows cluster {cluster}")
        if facts.topology is None:
            yield Finding(True, "no topology of its own: threads are numbered by hwthread_numbering")
        yield Finding(True, f"{len(ledger.read_running())} running jobs listed")
    except TargetError as error:
        yield Finding(False, str(error), "look at host, apikey and clustername")


def check_token(token: Secret, now: float) -> Iterator[Finding]:
    """What the token says of itself; the signature is the server's business."""
    claims = read_claims(token)
    if claims is None:
        yield Finding(False, "the token is no JWT", "make one with cc-backend -jwt USER")
        return
    if claims.roles is not None and "api" not in claims.roles:
        yield Finding(False, f"the token's roles are {claims.roles}", "it needs the role api")
    if claims.exp is None:
        yield Finding(True, "the token does not expire")
    elif claims.exp <= now:
        yield Finding(False, "the token has expired", "make a new one")
    else:
        days = (claims.exp - now) / 86_400
        yield Finding(claims.exp - now > SOON_S, f"the token expires in {days:.0f} days", "make a new one")


def read_claims(token: Secret) -> _Claims | None:
    parts = token.value.split(".")
    if len(parts) != 3:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=="), type=_Claims)
    except (ValueError, msgspec.DecodeError):
        return None
