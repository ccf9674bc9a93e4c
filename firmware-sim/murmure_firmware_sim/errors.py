"""What goes wrong by an operator's hand: one line, with the mend."""

from __future__ import annotations


class SimError(Exception):
    """A simulator's file, option or recording is wrong: the operator corrects it and starts again.

    `str()` is `FILE: KEY: what is wrong; what to write instead`; `exit_status` is the command's (2).
    """

    exit_status = 2

    def __init__(self, file: str, key: str, problem: str, mend: str) -> None:
        super().__init__(f"{file}: {key}: {problem}; {mend}")
        self.file = file
        self.key = key
        self.problem = problem
        self.mend = mend
