"""A backend in a pass: what it is, what the pass knows of it, what became of it. A record, no steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from applying import Applied, say_unexpected
from backends.base import UNEXPECTED, Backend, Facts, KnownRun, Ledger, SnapshotTarget, TargetError
from memory import BackendMemory
from model import RunKey
from plan import Plan

P = ParamSpec("P")


class Target:
    """Filled step by step; `error` says why it is not served (any further) in this pass."""

    def __init__(self, name: str, backend: Backend, part: BackendMemory) -> None:
        self.name, self.part = name, part
        self.ledger = backend if isinstance(backend, Ledger) else None
        self.page = backend if isinstance(backend, SnapshotTarget) else None
        self.running: dict[RunKey, KnownRun] = {}  # what it lists
        self.known: dict[RunKey, KnownRun] = {}  # and what it accepted a moment ago
        self.window = (0, 0)
        self.wanted: list[RunKey] = []  # active, and unknown to it
        self.missing: list[RunKey] = []  # held as running, and not in the listing
        self.retries: list[RunKey] = []  # unknown, have ended, and the window may have passed them by
        self.news: list[RunKey] = []  # ended, and neither its list nor the memory tells of them
        self.cut = False  # more news than one pass reads
        self.facts = Facts("")
        self.plan = Plan(name)
        self.applied = Applied()
        self.published = ""
        self.error: str | None = None
        self.page_error: str | None = (
            None  # why its page could not be shown; its jobs are served all the same
        )

    def read_running(self, ledger: Ledger) -> None:
        self.running = ledger.read_running()

    def guarded(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> str | None:
        """Do it unless the target has failed before; a failure ends its pass and is given back, once."""
        if self.error is None:
            try:
                work(*args, **kwargs)
            except TargetError as error:
                self.error = f"{self.name}: {error}"
            except UNEXPECTED as error:
                self.error = f"{self.name}: {say_unexpected(error)}"
            return self.error
        return None
