"""The open data: every scalar figure and every withheld node as CSV, in the columns of contract 7; annotations."""

from __future__ import annotations

import csv
import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Sequence
from io import StringIO

from murmure_privacy import publication
from murmure_privacy.annotation import Annotation
from murmure_privacy.estimate import Figure
from murmure_privacy.levels import EXCEEDED, SHARE_OVER
from murmure_privacy.policies import Rules
from murmure_privacy.published import number, printed_name, protects
from murmure_privacy.release import Noised, Outcome, Release
from murmure_privacy.window import utc

from murmure_dashboards.views import SignedNote, StreamView

HEADER = (
    *("start_utc", "end_utc", "site", "stream", "quantity", "node", "indicator"),
    *("value", "estimate", "ci95_low", "ci95_high", "unit", "state"),
    *("sigma", "mechanism", "rho_micro", "epsilon", "delta", "protects", "policy", "status", "reason"),
)

ANNOTATIONS = publication.ANNOTATIONS

ANNOTATIONS_HEADER = (
    *("site", "number", "issued_utc", "in_force", "stream", "start_utc", "end_utc", "cause"),
    *("withdraws", "sentence_fr", "sentence_en", "cose_base64"),
)


def quartier_file(slug: str, week: bool) -> str:
    """Returns the file with all values of a neighbourhood's page of the day, or of the week."""
    return f"donnees/{slug}-{'semaine' if week else 'jour'}.csv"


_READ_OFF = {"laeq_db": "energy_mean", SHARE_OVER: "histogram_s"} | dict.fromkeys(EXCEEDED, "histogram_s")
_FORMULA = frozenset("=+-@\t\r\n|%")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
# A cell, with the comma before it, that begins neither as a word nor as a number.
_ODD = re.compile(r",(?!-[0-9]+(?:\.[0-9]+)?(?:,|$))[^0-9A-Za-z,]")


def rows(view: StreamView, rules: Rules, bins: bool = False) -> Iterator[tuple[str, ...]]:
    """Yields the rows of one stream. `value` is the release as it left the gateway, negative ones as they are, empty
    for what is read off a histogram; `estimate` and its interval come from all nodes together. They stand here also
    where a page does not show the number, for a margin above 3 dB: these are data, with their margin beside them. A
    level of which only a bound is known has no estimate, and its interval one end. `bins`: also a row for each bin of a
    histogram; `rho_micro` is that of the whole histogram on each of them, as on each level that is read off it."""
    known: dict[tuple[str, int], list[Figure]] = {}
    held = (one for one in view.series.bins(view.now_s) if one.start_s in view.window) if bins else ()
    for figure in (*view.figures, *held):
        known.setdefault((figure.level, figure.start_s), []).append(figure)
    for outcome in sorted(view.outcomes, key=lambda o: (o.node.start_s, o.node.end_s)):
        node = outcome.node
        figures = known.get((node.level, node.start_s), [])
        if figures or not isinstance(outcome, Release):
            yield from _rows(view, rules, outcome, figures)


def _rows(view: StreamView, rules: Rules, outcome: Outcome, figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    """Yields a row for each figure of a node, or one that says that it has none."""
    node = outcome.node
    policy = rules.of(node.policy)
    part = policy.stream(node.stream) if policy else None
    about = (utc(node.start_s), utc(node.end_s), view.site, node.stream, node.quantity, node.level)
    ruled = (
        str(part.epsilon) if part else "",
        f"{part.delta:f}" if part else "",
        protects(part) if part else "",
        f"sha256:{node.policy.hex()}" if node.policy else "",
        "released" if isinstance(outcome, Release) else "withheld",
        "" if isinstance(outcome, Release) else outcome.reason,
    )
    if not figures:
        yield (*about, view.quantity.printed, *("",) * 4, view.quantity.unit, *("",) * 4, *ruled)
    for figure in figures:
        noised = _noised(outcome, figure.indicator)
        yield (
            *about,
            figure.indicator,
            number(figure.value),
            "" if figure.bound else number(figure.estimate),
            number(figure.low),
            number(figure.high),
            figure.unit,
            figure.state,
            number(figure.sigma),
            "discrete_gaussian" if noised else "",
            str(noised.rho_micro) if noised else "",
            *ruled,
        )


def _noised(outcome: Outcome, indicator: str) -> Noised | None:
    """What was drawn for an indicator; LAeq is read off the energy, bins, percentiles and shares off the histogram."""
    if not isinstance(outcome, Release):
        return None
    wanted = "histogram_s" if indicator.startswith("histogram_s_") else _READ_OFF.get(indicator, indicator)
    return next((n for n in outcome.noised if printed_name(outcome.node, n.indicator) == wanted), None)


def faults(notes: Iterable[SignedNote], marks: Collection[Annotation]) -> bytes:
    """Returns what stewards said of faulty periods as a CSV file: one row for each mark and each withdrawal, with the
    signed bytes. `marks`: those that hold. The files of releases keep every value, marked or not."""
    return _csv(ANNOTATIONS_HEADER, (_annotation_row(one, marks) for one in notes))


def _annotation_row(one: SignedNote, marks: Collection[Annotation]) -> tuple[str, ...]:
    note = one.note
    if isinstance(note, Annotation):
        holds = "yes" if note in marks else "no"
        about = (holds, note.stream, utc(note.from_s), utc(note.to_s), note.cause, "")
    else:
        about = ("", "", "", "", "", str(note.withdraws))
    signed = b64encode(one.sealed).decode("ascii")
    return (note.site, str(note.number), utc(note.issued_s), *about, note.sentence, note.sentence_en, signed)


def table(lines: Iterable[tuple[str, ...]]) -> bytes:
    """Returns a CSV file (RFC 4180, UTF-8) with the header."""
    return _csv(HEADER, lines)


def lines(of: Iterable[tuple[str, ...]]) -> bytes:
    """Returns rows as lines of a CSV file."""
    text = StringIO()
    writer = csv.writer(text)
    for row in of:
        plain = f",{','.join(row)}"
        if '"' in plain or "\r" in plain or "\n" in plain or plain.count(",") != len(row) or _ODD.search(plain):
            writer.writerow(map(cell, row))
        else:  # nearly all, and several times as fast
            text.write(f"{plain[1:]}\r\n")
    return text.getvalue().encode()


def _csv(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> bytes:
    return lines((header, *rows))


def cell(text: str) -> str:
    """Returns a text that no spreadsheet takes for a formula, with an apostrophe before it where one might; a number
    stays as it is."""
    return f"'{text}" if text[:1] in _FORMULA and not _NUMBER.fullmatch(text) else text
