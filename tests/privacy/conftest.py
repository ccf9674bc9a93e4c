"""Policies for the kernel's tests: the steward's words in, a parsed policy out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from murmure_privacy.policy import Policy, parse

STREAMS = {
    "footfall": """
id = "plaza/footfall"
quantity = "footfall"
protects = { crossings = 1 }
epsilon = 1.0
nodes = { "15min" = 1, "1h" = 1, "6h" = 1, "1d" = 1 }
""",
    "noise": """
id = "plaza/noise"
quantity = "noise"
protects = { seconds = 15 }
readings = { cadence_ms = 1000, tail = 11 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 24 }
indicators = { histogram = 6, mean = 3, energy = 1 }
bounds_db = [35, 85]
""",
    "pm2_5": """
id = "plaza/pm2_5"
quantity = "pm2_5"
protects = { seconds = 60 }
readings = { cadence_ms = 1000, tail = 2 }
epsilon = 1.0
nodes = { "1h" = 1, "1d" = 24 }
bounds = [0, 100]
""",
}
TOP = """policy = 1
site = "plaza"
version = 1
decision = "Délibération n° 42"
reason = "Essai"
valid_from = 2026-01-01
valid_until = 2028-12-31
"""


@pytest.fixture(scope="session")
def policy_text() -> Callable[..., str]:
    """Returns the TOML of a policy: streams by name or as text, `timezone`, and (old, new) texts to exchange."""

    def write(*streams: str, timezone: str = "Europe/Paris", swap: tuple[tuple[str, str], ...] = ()) -> str:
        tables = "".join(f"\n[[stream]]{STREAMS.get(stream, stream)}" for stream in streams or tuple(STREAMS))
        text = f'{TOP}timezone = "{timezone}"\n{tables}'
        for old, new in swap:
            if text.count(old) != 1:
                raise ValueError(f"{old!r} stands {text.count(old)} times")
            text = text.replace(old, new)
        return text

    return write


@pytest.fixture(scope="session")
def write_policy(policy_text: Callable[..., str]) -> Callable[..., Policy]:
    """Returns a parsed policy; arguments as those of `policy_text`."""
    return lambda *streams, **words: parse(policy_text(*streams, **words).encode(), "policy.toml")
