"""Tests of this rung run in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulators.virtual import VirtualLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], VirtualLoop]]:
    """Give every async test of this folder a virtual loop."""
    return {"virtual": VirtualLoop}
