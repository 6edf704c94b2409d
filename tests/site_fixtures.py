"""Fixture `site`: 24.11's recording, a double of 1.5.4 and an archive, for modules that name this one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_site import Site
from recordings import Recorded

from backends import cc_client


@pytest.fixture
def site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setattr(cc_client, "FIRST_WAIT_S", 0.001)
    with Site(tmp_path / "site", Recorded("24.11", "t0")) as site:
        site.capsys = capsys
        yield site
