"""A simulated cluster, ledgers in memory and the whole program between them: pass by pass, told in sentences.

The fixture that makes one is history_fixtures'.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_ledger import STORES, Store
from fake_source import CLUSTER, FakeSlurm

import sync
from memory import BackendMemory, Memory
from model import RunKey

LEDGER = "books"


class History:
    """One cluster and its passes. `ledger` is what the only target holds, unless a test adds more."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.slurm = FakeSlurm()
        self.ledger = STORES[LEDGER] = Store()
        self.folder, self._capsys = folder, capsys
        self.out = self.err = ""
        self.document: dict[str, Any] = {
            "clustername": CLUSTER,
            "state_dir": str(folder / "state"),
            "script": "none",
            LEDGER: {"class": "fake_ledger:FakeLedger", "name": LEDGER},
        }

    def without_accounting(self) -> None:
        self.slurm = FakeSlurm("off")

    def add_ledger(self, name: str) -> Store:
        self.document[name] = {"class": "fake_ledger:FakeLedger", "name": name}
        STORES[name] = Store()
        return STORES[name]

    def sync(self, *options: str, after_s: int = 0) -> int:
        """One pass; what it printed is in `out` and `err`."""
        self.slurm.pass_by(after_s)
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.document))
        config.chmod(0o600)
        self._capsys.readouterr()
        with fresh_log():
            code = sync.main(["-c", str(config), *options])
        self.out, self.err = self._capsys.readouterr()
        return code

    def passes(self, count: int, every_s: int = 60) -> None:
        """Healthy ones."""
        for _ in range(count):
            assert self.sync(after_s=every_s) == sync.OK, self.err

    def plan(self, *options: str, ledger: str = LEDGER) -> dict[str, Any]:
        """What a dry run says of the ledger."""
        self.sync("--dry-run", "--json", *options)
        plan: dict[str, Any] = json.loads(self.out)["backends"][ledger]
        return plan

    def would_start(self, *options: str) -> list[int]:
        return [job["jobId"] for job in self.plan(*options)["starts"]]

    def would_stop(self, *options: str) -> list[int]:
        return [stop["jobId"] for stop in self.plan(*options)["stops"]]

    def held(self) -> list[int]:
        return [held["jobId"] for held in self.plan()["held"]]

    @property
    def state_file(self) -> Path:
        return self.folder / "state" / f"{CLUSTER}.json"

    def memory(self) -> Memory:
        return msgspec.json.decode(self.state_file.read_bytes(), type=Memory)

    def part(self, ledger: str = LEDGER) -> BackendMemory:
        return self.memory().backends[ledger]

    def edit(self, ledger: str = LEDGER, **fields: Any) -> None:
        """Change what the state file says."""
        memory = self.memory()
        for name, value in fields.items():
            setattr(memory.backends[ledger], name, value)
        self.state_file.write_bytes(msgspec.json.encode(memory))

    def ended(self, key: RunKey, ledger: str = LEDGER) -> tuple[str, int, str]:
        """(state, end, evidence) of a run in the ledger."""
        return STORES[ledger].endings()[key]


@contextmanager
def fresh_log() -> Iterator[None]:
    """The program sets up the root logger once a process; a test plays many processes."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)
