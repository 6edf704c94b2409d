"""Fixture `history`, for modules that name this one in `pytest_plugins`."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_ledger import STORES
from histories import History

import sync


@pytest.fixture
def history(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> History:
    """A cluster in memory, one ledger, and no pass yet."""
    STORES.clear()
    history = History(tmp_path, capsys)
    monkeypatch.setattr(sync, "make_source", lambda settings, deadline: history.slurm)
    monkeypatch.setattr("os.fsync", lambda handle: None)  # thousands of passes need no disk to obey
    return history
