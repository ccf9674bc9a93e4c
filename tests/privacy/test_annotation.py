"""Which marks of faulty periods hold at an instant."""

from __future__ import annotations

from dataclasses import replace

from murmure_privacy.annotation import Annotation, Note, Withdrawal, in_force

MARK = Annotation("plaza", 1, 10_000, "Essai.", "plaza/noise", 0, 900, "works")
OTHER = replace(MARK, number=2, stream="plaza/footfall", issued_s=11_000)
ELSEWHERE = replace(MARK, site="alley", stream="alley/noise")
BACK = Withdrawal("plaza", 3, 12_000, "Erreur.", 1)


def test_a_mark_holds_from_its_issue_until_it_is_taken_back() -> None:
    """Pages as of an earlier instant show what was known then, neither a later mark nor a later withdrawal."""
    notes: list[Note] = [ELSEWHERE, MARK, OTHER, BACK]
    assert in_force(notes, 9_999) == []
    assert in_force(notes, 10_000) == [ELSEWHERE, MARK]
    assert in_force(notes, 11_999) == [ELSEWHERE, MARK, OTHER]
    assert in_force(notes, 12_000) == [ELSEWHERE, OTHER], "number 1 of another site is another mark"
