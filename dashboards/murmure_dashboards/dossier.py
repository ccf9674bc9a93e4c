"""The file for the data protection officer and the authority, from city.toml, the signed policies and the archive.

Record of processing, draft of the impact assessment, what is kept and what has travelled, and the evidence for each
claim. The figures are those of the privacy pages and of `policy preview`, by the same functions. What people have to
decide is said to be open: nothing is made up.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, Decimal
from functools import cache
from importlib import resources
from pathlib import Path

from murmure_ingest.archive import Archive
from murmure_ingest.archive_watch import GatewayState
from murmure_privacy import accountant
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.preview import sheet
from murmure_privacy.window import Calendar

from murmure_dashboards import accounts, pages
from murmure_dashboards.cannot import cannot
from murmure_dashboards.config import City, Site
from murmure_dashboards.dossier_facts import DAY_S, Draft, Facts, Group, Settings, longest_s, look, undecided
from murmure_dashboards.maker_privacy import NEARLY_ALL, guesses, habits
from murmure_dashboards.operations import require_private
from murmure_dashboards.promises import protected
from murmure_dashboards.site import write
from murmure_dashboards.wording import LANGUAGES, Language, language

NAME, NAME_OF_DRAFT = "dossier.{code}.html", "dossier-projet.{code}.html"
_KEPT = ("refused", "health", "aside", "copies")
_RISKS: Mapping[str, Sequence[str]] = {
    "stolen": ("raw", "revoke"),
    "centre": ("fields", "loosen", "log"),
    "steward": ("loosen", "log"),
    "software": ("bound",),
    "quiet": ("bound",),
    "use": ("end", "cannot"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a cell. `french`: whatever the language of the page; `code`: what is typed; `link`: where to."""

    text: str
    french: bool = False
    code: bool = False
    link: str = ""


Cell = Sequence[Line]


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of a row, of which the first names it. `id`: by what others lead to it, "" where nobody does."""

    cells: Sequence[Cell]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """`long`: its cells hold sentences."""

    id: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    long: bool = False


@dataclass(frozen=True, slots=True)
class Ladder:
    """What habits cost by one rule, or by all series of a place together."""

    head: str
    lines: Sequence[str]
    table: Table


@dataclass(frozen=True, slots=True)
class Step:
    """One station of what travels, how much of it there was, and what goes on from it."""

    name: str
    count: str
    onward: str


def build(
    archive: Archive,
    city: City,
    out: Path,
    now_s: int,
    config: Settings | None = None,
    site: Path | None = None,
    draft: Draft | None = None,
) -> tuple[list[Path], list[str]]:
    """Writes the file as of `now_s` (seconds UTC), one in each language, into the folder `out`; returns their paths and
    the keys of what the town has yet to decide.

    `config`: the centre's settings, for retention and mirror; `site`: the folder of the published site, for what was
    spent. Without them the file says that they were not read. `draft`: a policy that is not published, told in place of
    the one of its site, in files of another name that say so on each sheet. Raises DossierError if the archive knows no
    policy and there is no draft, ConfigError if `site` is none or if the draft cannot be the next policy of a place,
    SiteError if `out` is public, OSError where the disk refuses.
    """
    require_private(out)
    facts = look(archive, city, now_s, config, site, draft)
    paths = []
    for code in LANGUAGES:
        paths.append(out / _name(facts, code))
        write(paths[-1], Told(language(code), facts).page())
    return paths, [key for key, _ in undecided(facts)]


def _name(facts: Facts, code: str) -> str:
    return (NAME if facts.draft is None else NAME_OF_DRAFT).format(code=code)


@cache
def evidence() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Returns by claim the tests, commands, pages and documents that show it."""
    text = resources.files("murmure_dashboards").joinpath("dossier.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True, slots=True)
class Told:
    """The facts in one language."""

    say: Language
    facts: Facts

    def page(self) -> bytes:
        """Returns the whole file: one page that needs no other."""
        say, facts = self.say, self.facts
        zone = facts.calendar.zone
        now = {"date": say.date(facts.now_s, zone), "hour": say.clock(facts.now_s, zone)}
        return pages.unweighed(
            "dossier.html",
            say,
            "",
            facts.city,
            title=say("dossier.title", city=facts.city.city),
            style=(pages.static("murmure.css") + pages.static("dossier.css")).decode() + self._on_each_sheet(),
            twin=_name(facts, say("page.other_code")),
            draft=self._of_draft("draft"),
            given=say("dossier.given", **self._draft()) if facts.draft else "",
            scale=self._of_draft("scale"),
            written=say("dossier.written", **now),
            undecided=[self._undecided(key, places) for key, places in undecided(facts)],
            proved=self._proved,
            record=self._record(),
            places=self._places(),
            series=self._series(),
            counts=self._counts(),
            margins=self._margins(),
            ladders=self._ladders(),
            criteria=self._criteria() if facts.groups else [],
            spent=self._spent(),
            open=self._open(),
            cannot=cannot(say, facts.groups),
            risks=self._risks(),
            kept=self._kept(),
            holdings=self._holdings(),
            day=self._day(),
            flow=self._flow(),
            beside=self._beside(),
            traffic=self._traffic(),
            evidence=self._evidence(),
        ).encode()

    def _draft(self) -> dict[str, str]:
        """Returns whose policy is a draft, and which."""
        policy = self.facts.draft
        if policy is None:
            return {}
        place = next(site.name for site in self.facts.city.site if site.id == policy.site)
        return {"place": place, "version": str(policy.version)}

    def _of_draft(self, key: str) -> str:
        """Returns a sentence on what the file is made of; another one where a draft is in it."""
        return self.say(f"dossier.{key}_given" if self.facts.draft else f"dossier.{key}", **self._draft())

    def _on_each_sheet(self) -> str:
        """Returns the style that prints at the head of each sheet that a draft is in it."""
        if self.facts.draft is None:
            return ""
        return (
            f'@page {{ @top-center {{ content: "{self.say("dossier.each_sheet")}"; font: bold 9pt sans-serif; }} }}\n'
        )

    def _undecided(self, key: str, places: Sequence[str]) -> str:
        return self.say(f"dossier.undecided_{key}", places=self._listed(places))

    def _listed(self, names: Iterable[str]) -> str:
        return self.say("key.listed").join(names)

    def _plain(self, *texts: str) -> Cell:
        return [Line(text) for text in texts]

    def _proved(self, keys: Sequence[str]) -> Cell:
        order = list(evidence())
        return [Line(f"P{order.index(key) + 1}", link=f"#p{order.index(key) + 1}") for key in keys]

    def _table(self, name: str, caption: str, columns: Sequence[str], rows: Sequence[Row], long: bool = False) -> Table:
        return Table(name, caption, [self.say(column) for column in columns], rows, long)

    # --- the record --------------------------------------------------------------------------------------------------

    def _record(self) -> Table:
        say, city = self.say, self.facts.city
        reach = [say("dossier.controller_is", publisher=say.typeset(city.publisher or city.city))]
        reach += [say("dossier.reach", postal=say.typeset(city.postal))] if city.postal else []
        reach += [say("dossier.reach_phone", phone=say.phone(city.phone))] if city.phone else []
        rights = [say("dossier.rights_are")]
        if city.answer_days is not None:
            rights.append(say.counted("dossier.rights_days", city.answer_days, number=city.answer_days))
        rights.append(say("dossier.rights_paper"))
        unanswered = sum(request.state == "open" for request in city.request)
        rights.append(
            say("dossier.requests", all=say.number(len(city.request)), open=say.number(unanswered)),
        )
        held = [self._held_s(group) for group in self.facts.groups]
        memory = say("dossier.no_rule")
        if held:
            memory = say("dossier.memory_is", seconds=say.number(max(held)), hours=say.duration(max(held)))
        told: list[tuple[str, Cell, Sequence[str]]] = [
            ("controller", [*self._plain(*reach), Line(say("dossier.help", help=say.typeset(city.help)))], ()),
            ("role", self._plain(say("dossier.unknown")), ()),
            ("purpose", self._plain(say("dossier.purposes")), ()),
            ("persons", self._plain(say("dossier.persons_are")), ("cannot",)),
            ("data", self._plain(say("dossier.data_are")), ("fields", "cannot")),
            ("memory", self._plain(memory), ("raw",)),
            ("recipients", self._plain(say("dossier.recipients_are", licence=city.licence)), ("margin", "page")),
            ("transfers", self._plain(say("dossier.transfers_are")), ()),
            ("kept_published", self._plain(say("dossier.kept_published_is")), ("log",)),
            ("kept_rest", self._plain(*self._retention()), ("forget",)),
            ("rights", self._plain(*rights), ("ask",)),
            ("security", self._plain(say("dossier.security_is")), ("apart", "link", "revoke", "loosen", "log")),
        ]
        rows = [Row([self._plain(say(f"dossier.{key}")), cell, self._proved(keys)]) for key, cell, keys in told]
        columns = ("dossier.heading", "dossier.entry", "dossier.proof")
        return self._table("t-fiche", say("dossier.record_caption"), columns, rows)

    def _retention(self) -> list[str]:
        say, config = self.say, self.facts.config
        if config is None:
            return [say("dossier.not_read")]
        said = []
        for name in _KEPT:
            days = config.kept_days.get(f"{name}_days")
            long = say("dossier.for_ever") if days is None else say.counted("dossier.days", days, number=days)
            said.append(say(f"dossier.kept_{name}", days=long))
        return said

    def _held_s(self, group: Group) -> int:
        calendar = Calendar(group.policy.timezone)
        return max(longest_s(calendar, level, self.facts.today.year) for level, _ in group.part.nodes)

    def _places(self) -> Table:
        say = self.say
        columns = [f"dossier.{key}" for key in ("place", "owner", "basis", "decision", "end")]
        rows = [Row(self._place(site)) for site in self.facts.city.site]
        return self._table("t-lieux", say("dossier.places_caption"), columns, rows)

    def _place(self, site: Site) -> list[Cell]:
        say = self.say
        policy = self.facts.live.get(site.id) or self.facts.held[site.id].in_force(self.facts.today)
        english = say.code == "en" and bool(site.purpose_en)
        purpose = [Line(say.typeset(site.purpose_en if english else site.purpose), french=not english)]
        end = [
            Line(
                say("dossier.allowed_open")
                if site.until is None
                else say("dossier.allowed_until", last=say.civil(site.until))
            )
        ]
        if policy is None:
            end.append(Line(say("dossier.rule_none")))
        else:
            purpose += [Line(say.typeset(text), french=True) for text in (policy.reason, policy.decision)]
            now = self.facts.held[site.id].in_force(self.facts.today)
            for one in (policy,) if policy is not self.facts.draft else filter(None, (policy, now)):
                dates = {"first": say.civil(one.valid_from), "last": say.civil(one.valid_until)}
                end.append(Line(say(f"dossier.{self._standing(one)}", version=one.version, **dates)))
            pausing = [self.facts.held[site.id].pausing(part.id) for part in policy.streams]
            end += [Line(say("dossier.paused", version=one)) for one in {one.version for one in pausing if one}]
        basis = Line(say.typeset(site.legal_basis), french=True) if site.legal_basis else Line(say("dossier.to_decide"))
        owner = [Line(say.typeset(site.owner), french=True), Line(say.typeset(site.contact))]
        return [[Line(site.name, french=True)], owner, [basis], purpose, end]

    def _standing(self, policy: Policy) -> str:
        """Returns by its key in what state a policy is: a draft, to come, in force or over."""
        if policy is self.facts.draft:
            return "rule_paused_draft" if policy.paused else "rule_draft"
        if policy.valid_until < self.facts.today:
            return "rule_over"
        return "rule_until" if policy.valid_from <= self.facts.today else "rule_to_come"

    def _series(self) -> Table:
        say = self.say
        rows = [
            Row(
                [
                    self._plain(self._name(group)),
                    self._at(group.sites),
                    self._of_sensors(group, "computes"),
                    self._of_sensors(group, "leaves"),
                    self._plain(say("dossier.seconds", number=say.number(self._held_s(group)))),
                ]
            )
            for group in self.facts.groups
        ]
        columns = [f"dossier.{key}" for key in ("series", "at", "computes", "leaves", "held")]
        return self._table("t-series", say("dossier.series_caption"), columns, rows)

    def _of_sensors(self, group: Group, what: str) -> Cell:
        """Returns what the town says of the devices of a series, else what is true of each."""
        found: dict[str, Line] = {}
        for site in group.sites:
            devices = [one for one in site.sensor if one.stream in self._streams_at(group, site)]
            texts = [getattr(one, what) for one in devices if getattr(one, what)]
            for text in texts:
                found[text] = Line(self.say.typeset(text), french=True)
            if not texts:
                text = self.say(f"sensor.{what}_{group.quantity.kind}")
                found[text] = Line(text)
        return list(found.values())

    def _streams_at(self, group: Group, site: Site) -> Sequence[str]:
        same = replace(group.part, id="")
        return [part.id for part in self.facts.live[site.id].streams if replace(part, id="") == same]

    def _name(self, group: Group) -> str:
        return self.say(f"quantity.{group.quantity.name}")

    def _at(self, sites: Sequence[Site]) -> Cell:
        named = {site.id: site.name for site in sites}  # a place may have two series of one quantity
        if len(named) > 1 and len(named) == len(self.facts.live):
            return self._plain(self.say("dossier.all_places"))
        return [Line(name, french=True) for name in named.values()]

    # --- the assessment ----------------------------------------------------------------------------------------------

    def _counts(self) -> str:
        say = self.say
        places = say.counted("dossier.counts_places", len(self.facts.city.site), number=len(self.facts.city.site))
        series = sum(len(group.sites) for group in self.facts.groups)
        told = say.counted("dossier.counts_series", series, places=places, number=say.number(series))
        return f"{told} {say('dossier.counts_given', **self._draft())}" if self.facts.draft else told

    def _margins(self) -> Table:
        say = self.say
        rows = []
        for group in self.facts.groups:
            told = sheet(group.policy, group.plan, ())
            for node in told["nodes"]:
                if node["indicator"] != group.quantity.printed:
                    continue
                margin = say("dossier.margin_none")
                if node["error_95"] is not None:
                    margin = say("dossier.margin_is", amount=self._amount(group, node["error_95"]))
                device = say("dossier.device_none")
                if node["sensor_error"] is not None:
                    device = say("dossier.margin_is", amount=self._amount(group, node["sensor_error"]))
                interval = say(f"studio.node_{node['node']}")
                rows.append(
                    Row(
                        [
                            self._plain(self._name(group)),
                            self._at(group.sites),
                            *(self._plain(text) for text in (interval, margin, device)),
                        ]
                    )
                )
        columns = [f"dossier.{key}" for key in ("series", "at", "interval", "margin", "device")]
        return self._table("t-marges", say("dossier.margins_caption"), columns, rows)

    def _amount(self, group: Group, value: float) -> str:
        exact = Decimal(str(value))
        step = Decimal(1).scaleb(min(0, exact.adjusted() - 2))
        shown = exact.quantize(step, ROUND_CEILING).normalize()
        return self.say.counted(f"unit.{group.quantity.name}", float(shown), number=self.say.number(shown))

    def _risk(self, parts: Sequence[tuple[Policy, StreamPolicy]], days: int, units: int) -> accounts.Risk:
        """Returns what so many units in each of these streams, on each of so many days, say of who brings them."""
        rho = sum(accounts.allowed(policy, part, days) for policy, part in parts)
        found = accounts.risk(rho * units * units, max(part.delta for _, part in parts))
        if len(parts) == 1 and days == units == 1:  # as stewards have written it, and the privacy page says it
            return replace(found, epsilon=parts[0][1].epsilon.normalize())
        return found

    def _rungs(self, parts: Sequence[tuple[Policy, StreamPolicy]]) -> list[list[accounts.Risk]]:
        return [[self._risk(parts, days, units) for units in accountant.UNITS] for days in accounts.SPANS.values()]

    def _together(self) -> list[tuple[list[tuple[Policy, StreamPolicy]], list[Site]]]:
        """Returns the places by all their rules, those with the same together; one series alone is in its own table."""
        found: dict[str, tuple[list[tuple[Policy, StreamPolicy]], list[Site]]] = {}
        for site in self.facts.city.site:
            policy = self.facts.live.get(site.id)
            if policy is None or len(policy.streams) < 2:
                continue
            same = repr([replace(part, id=part.quantity.name) for part in policy.streams])
            found.setdefault(same, ([(policy, part) for part in policy.streams], []))[1].append(site)
        return list(found.values())

    def _ladders(self) -> list[Ladder]:
        """Returns one table for all that costs the same: the series alone, then the places together."""
        say, found = self.say, list[Ladder]()
        alike: dict[str, list[Group]] = {}
        for group in self.facts.groups:
            alike.setdefault(repr((group.plan.rho_micro, self._rungs([group.rule]))), []).append(group)
        for members in alike.values():
            first = members[0].part
            lines = [
                say(
                    "dossier.of_rule",
                    series=self._name(one),
                    places=self._named(one.sites),
                    unit=protected(say, one.part),
                )
                for one in members
            ]
            budget = {"epsilon": say.number(first.epsilon.normalize()), "delta": say.number(first.delta.normalize())}
            lines.append(say("dossier.rho", rho=say.number(members[0].plan.rho_micro), **budget))
            table = self._rung_table(f"t-{len(found)}", say("dossier.ladder_caption"), self._rungs([members[0].rule]))
            found.append(Ladder(say("dossier.alone_head"), lines, table))
        shared: dict[str, tuple[list[list[accounts.Risk]], list[Site]]] = {}
        for parts, sites in self._together():
            rungs = self._rungs(parts)
            shared.setdefault(repr(rungs), (rungs, []))[1].extend(sites)
        for rungs, sites in shared.values():
            lines = [say("dossier.together_at", places=self._named(sites))]
            table = self._rung_table(f"t-{len(found)}", say("dossier.together_caption"), rungs)
            found.append(Ladder(say("privacy.together_head"), lines, table))
        return found

    def _named(self, sites: Sequence[Site]) -> str:
        return self._listed(line.text for line in self._at(sites))

    def _rung_table(self, name: str, caption: str, rungs: Sequence[Sequence[accounts.Risk]]) -> Table:
        say = self.say
        rows = [
            Row([self._plain(say(f"privacy.span_{span}")), *(self._plain(self._rung(one)) for one in row)])
            for span, row in zip(accounts.SPANS, rungs, strict=True)
        ]
        columns = ["dossier.span", *(f"dossier.times_{units}" for units in accountant.UNITS)]
        return self._table(name, caption, columns, rows)

    def _rung(self, one: accounts.Risk) -> str:
        return self.say("dossier.cell", epsilon=self.say.number(one.epsilon), guesses=guesses(self.say, one))

    def _criteria(self) -> list[tuple[str, Sequence[str], Sequence[str]]]:
        """Returns the three criteria: head, what this town's policies say of it, and the claims that it rests on."""
        say = self.say
        alone = [[group.rule] for group in self.facts.groups]
        together = [parts for parts, _ in self._together()]
        every = [risk for parts in [*alone, *together] for row in self._rungs(parts) for risk in row]
        lost = sum(risk.guesses > NEARLY_ALL for risk in every)

        def worst(risks: Iterable[accounts.Risk]) -> str:
            return guesses(say, max(risks, key=lambda one: one.guesses))

        single = [say("dossier.single", guesses=worst(self._risk(parts, 1, 1) for parts in alone))]
        if lost:
            single.append(say.counted("dossier.single_fails", lost, number=say.number(lost), of=say.number(len(every))))
        else:
            single.append(say("dossier.single_holds", guesses=worst(every)))
        link = [say("dossier.link")]
        if together:
            link.append(say("dossier.link_most", guesses=worst(self._risk(parts, 1, 1) for parts in together)))
        delta = max(group.part.delta for group in self.facts.groups)
        infer = [say("dossier.infer", delta=say.number(delta.normalize()))]
        return [
            (say("dossier.single_head"), single, ("once", "spent", "bound")),
            (say("dossier.link_head"), link, ("fields", "cannot", "sums")),
            (say("dossier.infer_head"), infer, ("bound", "spent", "log")),
        ]

    def _spent(self) -> Table | None:
        say, published = self.say, self.facts.published
        if published is None:
            return None
        rows = []
        for site in self.facts.city.site:
            policy = self.facts.held[site.id].in_force(self.facts.today)
            cells: list[Cell] = [[Line(site.name, french=True)]]
            for days in accounts.SPANS.values():
                found = accounts.risk(*habits(policy, published.spent, published.last, days))
                cells.append(self._plain(self._rung(found)))
            rows.append(Row(cells))
        caption = say("dossier.spent_caption", day=say.civil(published.last))
        columns = ["dossier.place", *(f"privacy.span_{span}" for span in accounts.SPANS)]
        return self._table("t-depense", caption, columns, rows)

    def _open(self) -> list[str]:
        say = self.say
        limits = dict.fromkeys(
            (group.quantity.kind, group.part.up_to // group.quantity.per_unit)
            for group in self.facts.groups
            if group.part.up_to is not None
        )
        return [
            say("privacy.left_habit"),
            say("privacy.left_sum"),
            say("privacy.left_loud"),
            *(say(f"promise.above_{kind}", limit=say.number(limit)) for kind, limit in limits),
            *(say(f"dossier.{key}") for key in ("crowd", "seen", "opened")),
        ]

    def _risks(self) -> Table:
        say = self.say
        rows = [
            Row(
                [
                    self._plain(say(f"dossier.risk_{key}")),
                    self._plain(say(f"dossier.risk_{key}_measure")),
                    self._plain(say(f"dossier.risk_{key}_left")),
                    self._proved(keys),
                ]
            )
            for key, keys in _RISKS.items()
        ]
        columns = [f"dossier.{key}" for key in ("risk", "measure", "left", "proof")]
        return self._table("t-risques", say("dossier.risks_caption"), columns, rows)

    # --- what is kept, and what has travelled ------------------------------------------------------------------------

    def _kept(self) -> list[str]:
        say, seen, published = self.say, self.facts.seen, self.facts.published
        counts = {"messages": seen.messages, "policies": self.facts.policies, "log": seen.log_entries}
        lines = [say("dossier.kept", **{key: say.number(count) for key, count in counts.items()})]
        if published is not None and published.months:
            zone, files = self.facts.calendar.zone, len(published.months)
            ends = [
                say.month(self.facts.calendar.midnight(date(year, month, 1)), zone)
                for year, month in (published.months[0], published.months[-1])
            ]
            told = {"first": ends[0], "last": ends[1], "lines": say.number(published.lines)}
            lines.append(say.counted("dossier.site_kept", files, number=say.number(files), **told))
        elif published is not None:
            lines.append(say("dossier.site_empty"))
        waiting = sum(seen.waiting.values())
        lines.append(say.counted("dossier.waiting", waiting, number=say.number(waiting)))
        lines.append(say("dossier.refused", number=say.number(sum(seen.refused.values()))))
        return lines

    def _holdings(self) -> Table:
        say, zone = self.say, self.facts.calendar.zone
        named = {site.id: site.name for site in self.facts.city.site}
        rows = []
        for stream, held in sorted(self.facts.ever.items()):
            site = self.facts.site_of[stream]
            quantity = say(f"quantity.{self.facts.quantities[stream]}")
            texts = (
                say.date(held.from_s, zone),
                say.date(held.until_s - 1, zone),
                say.number(held.released),
                say.number(held.withheld),
            )
            place = Line(named.get(site, site), french=True)
            rows.append(Row([[place, Line(quantity)], *(self._plain(text) for text in texts)]))
        columns = [f"dossier.{key}" for key in ("series", "since", "until", "released", "withheld")]
        return self._table("t-garde", say("dossier.kept_caption"), columns, rows)

    def _day(self) -> str:
        say, zone = self.say, self.facts.calendar.zone

        def instant(at_s: int) -> str:
            return f"{say.date(at_s, zone)}, {say.clock(at_s, zone)}"

        return say("dossier.map", first=instant(self.facts.now_s - DAY_S), last=instant(self.facts.now_s))

    def _here(self, site: str | None = None) -> list[GatewayState]:
        """Returns the gateways that may speak, of a site or of all."""
        return [one for one in self.facts.seen.gateways if one.state != "revoked" and site in (None, one.site)]

    def _spoke(self, gateways: Sequence[GatewayState]) -> int:
        since_s = self.facts.now_s - DAY_S
        return sum(one.heard_s is not None and one.heard_s > since_s for one in gateways)

    def _flow(self) -> list[Step]:
        say, here = self.say, self._here()
        day = self.facts.day.values()
        counts: tuple[tuple[str, int, Mapping[str, str], str], ...] = (
            ("sensor", len(self.facts.day), {}, "raw"),
            ("gateway", self._spoke(here), {"of": say.number(len(here))}, "noised"),
            ("centre", sum(self.facts.spoken.values()), {}, "public"),
            ("site", sum(one.released for one in day), {"withheld": say.number(sum(one.withheld for one in day))}, ""),
        )
        return [
            Step(
                say(f"dossier.flow_{key}"),
                say.counted(f"dossier.flow_{key}_is", count, number=say.number(count), **more),
                say(f"dossier.flow_{onward}") if onward else "",
            )
            for key, count, more, onward in counts
        ]

    def _beside(self) -> list[str]:
        say, config = self.say, self.facts.config
        mirror = say("dossier.not_read")
        if config is not None:
            mirror = say("dossier.mirror_none")
            if config.mirror:
                mirror = say("dossier.mirror_is", machine=config.mirror)
        return [say("dossier.flow_health"), say("dossier.flow_down"), mirror]

    def _traffic(self) -> Table:
        say, facts = self.say, self.facts
        named = {site.id: site.name for site in facts.city.site}
        sites = [*named, *(one for one in facts.unlisted)]
        rows = []
        for site in sites:
            here = self._here(site)
            speakers = [one.gateway for one in facts.seen.gateways if one.site == site]
            held = [one for stream, one in facts.day.items() if facts.site_of[stream] == site]
            texts = (
                say("dossier.of", number=say.number(self._spoke(here)), of=say.number(len(here))),
                say.number(len(held)),
                say.number(sum(facts.spoken.get(name, 0) for name in speakers)),
                say.number(sum(one.released for one in held)),
                say.number(sum(one.withheld for one in held)),
                self._listed(say.number(one.settled_seq) for one in here) or "–",
                say.number(sum(one.missing for one in here)),
            )
            rows.append(Row([[Line(named.get(site, site), french=True)], *(self._plain(text) for text in texts)]))
        keys = ("place", "spoke", "series", "messages", "released", "withheld", "receipts", "missing")
        columns = [f"dossier.{key}" for key in keys]
        return self._table("t-carte", say("dossier.map_caption"), columns, rows)

    # --- the evidence ------------------------------------------------------------------------------------------------

    def _evidence(self) -> Table:
        say, address = self.say, self.facts.city.address
        rows = []
        for number, (key, shown) in enumerate(evidence().items(), 1):
            where = [Line(test, code=True) for test in shown["tests"]]
            where += [Line(command, code=True) for command in shown.get("commands", ())]
            for page in shown.get("pages", ()):
                link = f"{address.removesuffix('/')}{page}" if address else ""
                where.append(Line(page, link=link))
            where += [Line(document, code=True) for document in shown.get("documents", ())]
            rows.append(Row([self._plain(f"P{number}"), self._plain(say(f"dossier.claim_{key}")), where], f"p{number}"))
        columns = ("dossier.proof", "dossier.claim", "dossier.where")
        return self._table("t-preuves", say("dossier.evidence_caption"), columns, rows, long=True)
