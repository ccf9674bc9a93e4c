"""What can go wrong in the kernel; each class says what its reader does about it.

`exit_status` is what the command line ends with: 1 the operation failed, 2 usage or configuration is wrong, or a file
that no second try finds mended: whoever starts programs again by itself need not try.
"""

from __future__ import annotations


class MurmureError(Exception):
    """Base of every error with a message fit for an operator: one line, what, where and the mend."""

    exit_status = 1

    def __reduce__(self) -> tuple[object, ...]:
        """Goes to another process by its line and its fields: a subclass is not made of its line."""
        return _again, (type(self), *self.args), vars(self)


def _again(kind: type[MurmureError], *args: object) -> MurmureError:
    return kind.__new__(kind, *args)


class ConfigError(MurmureError):
    """A file says something it must not: stop, show the line, let a person mend it."""

    exit_status = 2

    def __init__(self, file: str, key: str, problem: str, mend: str) -> None:
        super().__init__(f"{file}: {key}: {problem}; {mend}")
        self.file, self.key, self.problem, self.mend = file, key, problem, mend


class PrivacyError(MurmureError):
    """The promise would be broken. Nothing catches this but the gate, and only its budget kinds."""


class BudgetExceeded(PrivacyError):
    """A charge would spend more than the policy allows at some instant: withhold the node."""

    def __init__(self, stream: str, wanted_rho_micro: int, left_rho_micro: int) -> None:
        super().__init__(
            f"{stream}: a charge of {wanted_rho_micro} micro-rho does not fit the {left_rho_micro} left; "
            "the node is withheld"
        )
        self.stream, self.wanted_rho_micro, self.left_rho_micro = stream, wanted_rho_micro, left_rho_micro


class AlreadyReleased(PrivacyError):
    """This node has its one line in the ledger: drawing again is refused, for ever."""


class LedgerDamaged(PrivacyError):
    """The ledger does not read as it was written: stop and publish nothing, until a person has come."""

    exit_status = 2


class MechanismError(PrivacyError):
    """The noise source does not state the privacy loss that the plan charges: stop."""


class WireError(MurmureError):
    """Bytes that are not a message of ours: refuse and count. `reason` is one word for the counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
