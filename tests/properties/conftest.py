"""What must hold for any input: hypothesis makes the inputs.

In the fast suite always the same ones, so that a run says something of the change and not of its luck; with --slow
many more, and others each time. How many a test takes is told as a share of the profile's `max_examples`.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# Machines that run tests are busy, and a fork beside it makes an example slow: neither is a failure.
_COMMON = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.register_profile("fast", _COMMON, max_examples=120, derandomize=True)
settings.register_profile("slow", _COMMON, max_examples=1000, print_blob=True)


def pytest_configure(config: pytest.Config) -> None:
    is_slow = bool(config.getoption("slow"))
    settings.load_profile("slow" if is_slow else "fast")
    if not is_slow and hasattr(providers, "_get_local_constants"):
        # Newer ones put the constants of all loaded modules into the inputs, which so depend on what is tested beside.
        providers._get_local_constants = lambda: providers._local_constants
