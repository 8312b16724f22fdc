"""What holds for every test: how fast this machine is at the moment decides nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("sluice", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sluice")
