"""Fourth part of a check: every row of the tables is as a gateway has signed it, and each estimate is what all signed
nodes give together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf

from murmure_privacy.estimate import Figure, Series
from murmure_privacy.levels import EXCEEDED, SHARE_OVER, decibels
from murmure_privacy.publication import DAY_S, RUNNING, Publication, rows_of, table_file
from murmure_privacy.published import divisor, number, printed_name, printed_values, protects
from murmure_privacy.release import Node, Outcome, Release
from murmure_privacy.stream import QUANTITIES, histogram_edges_tenths
from murmure_privacy.verify_days import Days
from murmure_privacy.verify_log import Book
from murmure_privacy.verify_messages import Heard
from murmure_privacy.window import Window, calendar, parse_utc, utc

_NOT_ALWAYS = ("laeq_db", SHARE_OVER)
"""Read off where that can be done alone: no level of an energy that noise made negative, no share without a bin."""
_COLUMNS = "value", "estimate", "ci95_low", "ci95_high", "state", "status", "reason", "policy", "sigma", "rho_micro"
"""Of a row, beside those that say which it is, and those of which only one text is right."""
_BIN = "histogram_s_"
_EDITIONS = 100
_SIGMAS, _ROUNDED = 8.0, 2e-6
_ARITHMETIC = 1e-12
"""How much, of its size, an estimate may differ by the order in which another machine added."""
_AFTER_ALL_S = 1 << 62
_FROM_UTC_S = 14 * 3600
"""How far a civil midnight is from that of UTC at most."""

Key = tuple[str, str, int]
"""Stream, level and begin (seconds UTC) of a node."""
Cell = tuple[str, str, int, str]
"""Those of a node, and an indicator of it."""
Told = dict[str, tuple[str, str, str]]
"""Value, sigma and micro-rho of a node as the tables have them, by indicator."""


class Tables:
    """The tables of a publication. `rows`: those of the newest edition of each month, and of the day that is not over,
    about days that were read, by node and indicator; `differs`: what of such a row is not as it was signed, one of
    KINDS; `computed`: those whose estimate was computed anew; `shown`: the nodes of the streams that have rows;
    `months`: those that were read; `editions`: how many each of them has. `week`: whether the rows are those of the
    files by neighbourhood, since the tables are too large to be read."""

    def __init__(self, published: Publication, book: Book, heard: Heard) -> None:
        self.report = book.report
        self.rows: dict[Cell, Mapping[str, str]] = {}
        self.differs: dict[Cell, str] = {}
        self.computed: set[Cell] = set()
        self.shown: set[Key] = set()
        self.week = False
        self.months: list[str] = []
        self.editions: dict[str, int] = {}
        self._published, self._book, self._heard = published, book, heard
        self._first_s = 0  # of the rows, where they are those of a week
        self._newest: tuple[Outcome | None, Told] = None, {}
        self._elsewhere: dict[Key, str | None] = {}  # by the days of which timezone a node's rows were made

    def read(self, unread: Collection[int], line: int | None = None) -> None:
        """Every row of the tables about the days that were looked at is as a gateway has signed it, once an edition;
        in the newest edition and the table of the day that is not over, which goes on where that ends, none is missing
        and none stands twice. `unread`: days that were not looked at; rows of all others are. `line`:
        see `verify.verify`."""
        read = self._published.rows
        if read is None:
            return
        days = set(self.report.days)
        wanted = {key: one for key, (_, _, one) in self._heard.nodes.items() if (one.node.end_s - 1) // DAY_S in days}
        months = {utc(at_s + shift)[:7] for _, _, at_s in wanted for shift in (-_FROM_UTC_S, _FROM_UTC_S)}
        self.months = sorted(months.union(() if unread else self._published.months))
        weeks = self._weeks(line)
        if weeks:
            self.report.left_tables, self.months, self.week = self.months, [], True
            for path in weeks:
                week = self._edition(path, rows_of(self._published.read(path) or b""), wanted, unread)
                self._once(week)
                self.rows |= week
            self._first_s = min((at_s for _, _, at_s, _ in self.rows), default=0)
        for month in self.months:
            newest: dict[Cell, Mapping[str, str]] = {}
            number = 1
            while (rows := read(month, number)) is not None:
                newest, number = self._edition(month, rows, wanted, unread), number + 1
            self.editions[month] = number - 1
            made = self._published.made
            timezone = made.timezones.get((month, number - 1), made.timezone)
            self._once(
                cell
                for cell in newest.keys() & self.rows.keys()
                if self._elsewhere.get(cell[:3], made.timezone) == timezone or not _begins(month, cell[2])
            )
            self.rows |= newest
            if self._elsewhere or timezone != made.timezone:  # else all are by the newest
                self._elsewhere |= dict.fromkeys((cell[:3] for cell in newest), timezone)
        if not weeks:
            running = self._edition(RUNNING, rows_of(self._published.read(RUNNING) or b""), wanted, unread)
            self._once(running)
            self.rows |= running
        told = {self._site(key[:3]) for key in self.rows}
        if wanted and not told:
            self.report.add("row_missing", " ".join(sorted(months)))
            return
        streams = {key[0] for key in self.rows}
        self.shown = {key for key in self._heard.nodes if key[0] in streams} if weeks else {k[:3] for k in self.rows}
        self._compute(unread)
        for key, outcome in sorted(wanted.items(), key=_first):
            if self._site(key) not in told:
                self.report.untold = sorted({*self.report.untold, self._site(key)})
                continue
            for indicator in figures(outcome) if key[2] >= self._first_s else ():
                if self._always(indicator) and (*key, indicator) not in self.rows:
                    self.report.add("row_missing", f"{key[0]} {key[1]} {utc(key[2])} {indicator}")

    def _once(self, cells: Iterable[Cell]) -> None:
        """None of these stands in a table that was read before: of two rows, the one that is wrong could hide behind
        the other."""
        for cell in sorted(self.rows.keys() & set(cells)):
            self.report.add("row_twice", f"{cell[0]} {cell[1]} {utc(cell[2])} {cell[3]}")

    def _weeks(self, line: int | None) -> list[str]:
        """Returns the files of the week by neighbourhood if they are to be read instead of the months' tables: where
        these are too large, and there is a file of a week."""
        if line is None:
            return []
        tables = sum(map(self._octets, self.months)) + (self._published.size(RUNNING) or 0)
        if self._published.used() + tables <= line:
            return []
        slugs = sorted({gateway.quartier for gateway in self._book.gateways.values()})
        weeks = [f"donnees/{slug}-semaine.csv" for slug in slugs]
        return [path for path in weeks if self._published.size(path) is not None]

    def _octets(self, month: str) -> int:
        """Returns how many bytes the tables of a month are on their way, as far as anybody says it."""
        total, edition = 0, 1
        while edition <= _EDITIONS and (size := self._published.size(table_file(month, edition))) is not None:
            total, edition = total + size, edition + 1
        return total

    def _always(self, indicator: str) -> bool:
        """Returns whether each release with such a figure has a row: the files of a week have no bins."""
        return indicator not in _NOT_ALWAYS and not (self.week and indicator.startswith(_BIN))

    def _edition(
        self,
        month: str,
        rows: Iterable[Mapping[str, str]],
        wanted: Mapping[Key, Outcome],
        unread: Collection[int],
    ) -> dict[Cell, Mapping[str, str]]:
        """Judges the rows of one edition, but for those of unread days; returns those of figures that were signed."""
        found: dict[Cell, Mapping[str, str]] = {}
        for row in rows:
            try:
                node = row["stream"], row["node"], parse_utc(row["start_utc"])
                ends, indicator = (parse_utc(row["end_utc"]) - 1) // DAY_S, row["indicator"]
            except (KeyError, ValueError, AttributeError, OverflowError):
                self.report.add("row_unsigned", month)
                continue
            outcome = wanted.get(node)
            if outcome is None and ends in unread:
                continue
            self.report.rows += 1
            key = *node, indicator
            kind = "row_unsigned" if outcome is None else self.objection(row, outcome)
            if key in found:
                kind = "row_twice"
            if kind is not None:
                self.report.add(kind, f"{row['stream']} {row['node']} {row['start_utc']} {indicator}")
            if outcome is not None:
                found[key] = row
                self.differs.pop(key, None)
                self.differs |= {} if kind is None else {key: kind}
        return found

    def _site(self, key: Key) -> str:
        return self._book.gateways[self._heard.nodes[key][0]].site

    def _compute(self, unread: Collection[int]) -> None:
        """Each estimate, with its interval, is the one that the signed nodes of its whole period give, those that stand
        in the tables; figures that are read off others are there where they can be. An older edition was made of fewer
        nodes, and nobody knows of which."""
        streams: dict[str, list[Outcome]] = defaultdict(list)
        for key in sorted(self.shown):
            streams[key[0]].append(self._heard.nodes[key][2])
        for stream, outcomes in streams.items():
            if stream in self._heard.astray:  # it was named, and who knows what comes of it
                continue
            for timezone in dict.fromkeys((self._published.made.timezone, *self._elsewhere.values())):
                self._compute_by(timezone, outcomes, unread)

    def _compute_by(self, timezone: str | None, outcomes: Sequence[Outcome], unread: Collection[int]) -> None:
        """Does so for those rows of a stream that were made by the days of a timezone, None for that of its policy."""
        policies = [self._book.policies.get(policy) for policy in {outcome.node.policy for outcome in outcomes}]
        zones = {policy.plan.calendar.timezone for policy in policies if policy}
        days, elsewhere = None, False
        if timezone is not None and zones - {timezone}:
            days = Days(outcomes, calendar(timezone), self._book.policies)
        made: Iterable[Figure]
        if days is None:
            series = Series(outcomes, min(zones, default="UTC"))
            made = (*series.figures(_AFTER_ALL_S), *series.bins(_AFTER_ALL_S))
        else:
            made = days.figures()
        due = {(one.stream, one.level, one.start_s, one.indicator): one for one in made}
        for outcome in outcomes:
            node = outcome.node
            if node.start_s < self._first_s or not isinstance(outcome, Release):
                continue
            if self._elsewhere.get(node.key, self._published.made.timezone) != timezone:
                continue
            elsewhere = days is not None
            span = Window(node.start_s, node.end_s) if days is None else days.whole(node.start_s)
            if self._heard.whole(node.stream, span, unread):
                for indicator in figures(outcome):
                    cell = *node.key, indicator
                    self._compare(cell, due.get(cell))
        if elsewhere and timezone is not None:
            self.report.elsewhere = sorted({*self.report.elsewhere, self._site(outcomes[0].node.key)})
            self.report.by_days = sorted({*self.report.by_days, timezone})

    def _compare(self, key: Cell, figure: Figure | None) -> None:
        row, where = self.rows.get(key), f"{key[0]} {key[1]} {utc(key[2])} {key[3]}"
        if row is None or key in self.differs:
            if row is None and figure is not None and key[3] in _NOT_ALWAYS:
                self.report.add("row_missing", where)
            return
        self.report.computed += 1
        self.computed.add(key)
        due: list[float | None] = [None] * 3
        if figure is not None:
            due = [None if figure.bound else figure.estimate, figure.low, figure.high]
        said = [row["estimate"], row["ci95_low"], row["ci95_high"]]
        if figure is None or not all(map(_same, said, due)):
            self.differs[key] = "row_computed"
            told, anew = (" ".join(one or "-" for one in ends) for ends in (said, map(number, due)))
            self.report.add("row_computed", f"{where}: {told} / {anew}")

    def _figures(self, outcome: Outcome) -> Told:
        """Of a node with bins there are thirty rows, one after another."""
        if self._newest[0] is not outcome:
            self._newest = outcome, figures(outcome)
        return self._newest[1]

    def objection(self, row: Mapping[str, str], outcome: Outcome) -> str | None:
        """Returns what of a row of the tables is not as a gateway has signed it, None if all is: one of KINDS."""
        node, known, released = outcome.node, self._figures(outcome), isinstance(outcome, Release)
        indicator, policy = row["indicator"], self._book.policies.get(node.policy)
        if indicator not in known:
            return "row_unsigned"
        if any(row.get(name) is None for name in _COLUMNS):
            return "row_column"
        reason = "" if isinstance(outcome, Release) else outcome.reason
        if (row.get("status"), row.get("reason")) != ("released" if released else "withheld", reason):
            return "row_reason"
        if row.get("policy") != f"sha256:{node.policy.hex()}":
            return "row_policy"
        value, sigma, rho = known[indicator]
        if row.get("value") != value:
            return "row_value"
        if (row.get("sigma"), row.get("rho_micro")) != (sigma, rho):
            return "row_sigma"
        part = None if policy is None else policy.plan.policy.stream(node.stream)
        told = {
            "start_utc": utc(node.start_s),
            "end_utc": utc(node.end_s),
            "site": self._site(node.key),
            "quantity": node.quantity,
            "unit": _unit(node, indicator),
            "mechanism": "discrete_gaussian" if released else "",
            "epsilon": str(part.epsilon) if part else "",
            "delta": f"{part.delta:f}" if part else "",
            "protects": protects(part) if part else "",
        }
        if any(row.get(name) != text for name, text in told.items()):
            return "row_column"
        return None if _plausible(row, value, sigma, released) else "row_estimate"


def _begins(month: str, at_s: int) -> bool:
    """Returns whether an instant is so near to the begin of a month that by other days it is in the one before."""
    before, after = (utc(at_s + shift)[:7] for shift in (-_FROM_UTC_S, _FROM_UTC_S))
    return before < after == month


def _unit(node: Node, indicator: str) -> str:
    """Returns the unit of a figure of the tables."""
    if indicator.startswith(_BIN):
        return "s"
    if indicator in ("energy_mean", SHARE_OVER):
        return "1"
    return "dB" if indicator in EXCEEDED else QUANTITIES[node.quantity].unit


def _plausible(row: Mapping[str, str], value: str, sigma: str, released: bool) -> bool:
    """Returns whether state, estimate and interval may be what all nodes together give: whether they are is computed
    where all nodes are known. An estimate from all nodes is nearer to the truth than the release, whose own noise is
    hardly ever 6 sigma."""
    texts = [row.get(name) for name in ("estimate", "ci95_low", "ci95_high")]
    if not released:
        return [*texts, row.get("state")] == [""] * 4
    try:
        estimate, low, high = (float(text) if text else None for text in texts)
    except ValueError:
        return False
    ends = -inf if low is None else low, inf if high is None else high
    if row.get("state") not in ("provisional", "final") or not ends[0] <= ends[1]:
        return False
    if row["indicator"] in EXCEEDED:
        if low is None or high is None:  # no estimate, but a bound
            return estimate is None
        return estimate is not None and abs(estimate - (low + high) / 2) <= _ROUNDED
    if estimate is None or high is None or (low is None and row["indicator"] != "laeq_db"):
        return False
    if not ends[0] - _ROUNDED <= estimate <= high + _ROUNDED:
        return False
    return not sigma or abs(estimate - float(value)) <= _SIGMAS * float(sigma) + _ROUNDED


def figures(outcome: Outcome) -> Told:
    """Returns what the tables tell of a node; no value for what is read off a histogram, and none at all for what was
    withheld."""
    node = outcome.node
    found: Told = {}
    for noised in outcome.noised if isinstance(outcome, Release) else ():
        name, values = printed_name(node, noised.indicator), printed_values(node, noised)
        sigma, rho = number(noised.sigma_milli / 1000 / divisor(node, noised.indicator)), str(noised.rho_micro)
        if noised.indicator == "histogram":
            edges = [edge / 10 for edge in histogram_edges_tenths(*node.bounds)]
            bins = zip(pairwise(edges), values, strict=True)
            found |= {f"{name}_{low:g}_{high:g}_db": (number(value), sigma, rho) for (low, high), value in bins}
            found |= dict.fromkeys((*EXCEEDED, SHARE_OVER), ("", "", rho))
            continue
        found[name] = number(values[0]), sigma, rho
        if noised.indicator == "energy":
            found["laeq_db"] = number(decibels(noised.integers[0] / divisor(node, "energy"))), "", rho
    return found or {QUANTITIES[node.quantity].printed: ("", "", "")}


def _same(text: str, due: float | None) -> bool:
    """Returns whether a cell says a number, but for the last of its six decimals."""
    if not text or due is None:
        return not text and due is None
    return abs(float(text) - due) <= _ROUNDED + _ARITHMETIC * abs(due)


def _first(pair: tuple[Key, Outcome]) -> Key:
    return pair[0]
