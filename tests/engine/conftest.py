"""Tests of this rung run in virtual time; `suite` is a cell suite with its controller (see story.py)."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from simulators.virtual import VirtualLoop

sys.path.insert(0, str(Path(__file__).parent))
from cells import TwoCells
from story import Story, told


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], VirtualLoop]]:
    """Give every async test of this folder a virtual loop."""
    return {"virtual": VirtualLoop}


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Story]:
    """A suite that is ready for a recipe; at its end the invariants of every story are checked."""
    async with told(Story(tmp_path)) as story:
        yield story


@pytest_asyncio.fixture
async def cells(tmp_path: Path) -> AsyncIterator[TwoCells]:
    """Two cells with one freezer on one controller."""
    async with told(TwoCells(tmp_path)) as story:
        yield story
