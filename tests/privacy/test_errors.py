"""Errors as other processes are told of them."""

from __future__ import annotations

import pickle

import pytest
from murmure_privacy.errors import BudgetExceeded, ConfigError, LedgerDamaged, MurmureError, WireError
from murmure_privacy.french import Refused

ERRORS = (
    ConfigError("city.toml", "site.plaza", "unknown key", "write one of name, purpose"),
    BudgetExceeded("plaza/footfall", 12, 3),
    LedgerDamaged("gateway.db: damaged"),
    WireError("malformed", "not a message"),
    Refused("refusé", 2),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_says_the_same_in_another_process(error: MurmureError) -> None:
    """A process that makes pages hands its error to the one that waits: with line, fields, status and notes."""
    error.add_note("where it was met")
    told = pickle.loads(pickle.dumps(error))
    assert type(told) is type(error)
    assert (str(told), vars(told), told.exit_status) == (str(error), vars(error), error.exit_status)
