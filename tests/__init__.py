"""The tests: run them with `make test`."""

from __future__ import annotations

import warnings

from hypothesis import HealthCheck, settings

warnings.simplefilter("error")  # also in the processes among which trial divides them

# How fast a machine is just now is no property of the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
