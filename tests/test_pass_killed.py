"""A pass that is killed at any moment, followed by a good one, ends as one good pass does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cc_routes import Answer, Request
from recorded_site import Site
from recordings import Recorded

import sync


class Killer:
    """Kills the pass when its N-th request arrives: before it is carried out, or after."""

    def __init__(self, site: Site, number: int, after: bool) -> None:
        self._answer, self._left, self._after = site.double.answer, number, after
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, request: Request) -> Answer:
        self._left -= 1
        if self._left == 0 and self._after:
            answer = self._answer(request)
            self._kill()
            return answer
        if self._left == 0:
            self._kill()
        return self._answer(request) if self._left > 0 else Answer(503)

    def _kill(self) -> None:
        assert self.process is not None
        self.process.kill()


def prepare(folder: Path, cc_first: bool) -> Site:
    """A site after the first moment; the second one has starts, stops and changes for both targets."""
    site = Site(folder, Recorded("24.11", "t0"))
    if not cc_first:
        site.document["cc-backend"] = site.document.pop("cc-backend")
    site.double.__enter__()
    assert site.play() == sync.OK
    site.double.commit_cache()
    site.show("t1")
    site.double.requests.clear()
    return site


def killed(site: Site, number: int, after: bool, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a pass in a process of its own that is killed at its N-th request."""
    killer = Killer(site, number, after)
    with monkeypatch.context() as patch:
        patch.setattr(site.double, "answer", killer)
        with site.spawn() as process:
            killer.process = process
            process.communicate()
    return process.returncode


def settle(site: Site) -> tuple[Any, ...]:
    """What stands there once the targets list what they accepted."""
    site.double.commit_cache()
    assert site.play() == sync.OK
    site.__exit__()
    return site.everything()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[int, Any]]:
    """The requests of one good pass, and what stands there after it; cc-backend first, or the archive."""
    found = {}
    for cc_first in (True, False):
        site = prepare(tmp_path_factory.mktemp("good"), cc_first)
        assert site.play() == sync.OK
        found[cc_first] = (len(site.double.requests), settle(site))
    return found


@pytest.mark.parametrize("part", range(10))
def test_a_killed_pass_and_a_good_one_end_as_one_good_pass(
    tmp_path: Path, reference: dict[bool, tuple[int, Any]], part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cc_first, after = part % 2 == 0, part % 4 < 2
    requests, wanted = reference[cc_first]
    site = prepare(tmp_path / "site", cc_first)
    assert killed(site, 1 + part * (requests - 1) // 9, after, monkeypatch) == -9
    assert site.play() == sync.OK
    assert settle(site) == wanted


def test_several_killed_passes_do_no_more_harm_than_one(
    tmp_path: Path, reference: dict[bool, tuple[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = prepare(tmp_path / "site", True)
    for number in (4, 9, 14):
        assert killed(site, number, True, monkeypatch) == -9
    assert site.play() == sync.OK
    assert settle(site) == reference[True][1]
