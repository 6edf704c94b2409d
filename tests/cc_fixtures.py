"""Fixture `scene`, for modules that name this one in `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cc_scene import VERSIONS, Scene
from histories import History

from backends import cc_client

pytest_plugins = ["history_fixtures"]


@pytest.fixture(params=VERSIONS)
def scene(
    history: History, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    monkeypatch.setattr(cc_client, "FIRST_WAIT_S", 0.001)
    scene = Scene(history, request.param)
    with scene.double:
        yield scene
