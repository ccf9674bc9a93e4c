"""What the figures may reveal of anyone: the budget that is allowed and spent, said from published files alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from murmure_privacy import accountant
from murmure_privacy.policy import Policy, StreamPolicy

from murmure_dashboards import accounts, journal, months
from murmure_dashboards.changes import changes
from murmure_dashboards.config import Site
from murmure_dashboards.decisions import Decisions, decisions
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.maker_data import POLICIES
from murmure_dashboards.pages import Link
from murmure_dashboards.paging import parts
from murmure_dashboards.pauses import Days, by_site, pauses
from murmure_dashboards.pauses import told as told_pauses
from murmure_dashboards.promises import protected
from murmure_dashboards.wording import LANGUAGES, Language, language

FOLDER = "vie-privee/"
SITES_A_PAGE, STREAMS_A_PAGE, DECISIONS_SHOWN, PAUSES_SHOWN = 90, 8, 12, 12
NEARLY_ALL = 99  # right guesses in a hundred beyond which nothing worth the name is promised
_SEVERAL = (2, 4, 10)


@dataclass(frozen=True, slots=True)
class Series:
    """One stream in words. `rows`: span, epsilon allowed and spent, right guesses that these bear."""

    name: str
    unit: str
    example: str
    several: str
    left_out: str
    paused: str
    caption: str
    rows: Sequence[tuple[str, str, str, str]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the log has come: number and root of its entries, as the third line of the signed note has it."""

    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Decided:
    """One signed policy in words; `decision` and `reason` are French."""

    version: int
    dates: str
    decision: str
    reason: str
    changes: Sequence[str]
    path: str


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the pages in each language. Reads the ledger and the policies, nothing else of the archive."""
    spent = accounts.spent(ctx.ledger)
    stopped = by_site(ctx.ledger)
    held = {site.id: decisions(ctx.archive, ctx.rules, site.id) for site in ctx.city.site}
    today = ctx.calendar.civil_day(ctx.now_s - 1)
    over = ctx.now_s >= ctx.today.end_s
    last = today if over else today - timedelta(1)
    for code in LANGUAGES:
        say = language(code)
        yield from _overview(ctx, say, held, spent, today, last)
    for site in ctx.city.site:
        told = held[site.id], spent, stopped.get(site.id, {}), today, last
        yield from ctx.unless_kept(f"privacy {site.id}", _made_of(ctx, site, *told), _of_site(ctx, site, *told))


def _of_site(
    ctx: Build,
    site: Site,
    held: Decisions,
    spent: Mapping[str, accounts.Spent],
    stopped: Days,
    today: date,
    last: date,
) -> Iterator[tuple[str, bytes]]:
    for code in LANGUAGES:
        yield from _site(ctx, language(code), site, held, spent, stopped, today, last)


def _made_of(
    ctx: Build,
    site: Site,
    held: Decisions,
    spent: Mapping[str, accounts.Spent],
    stopped: Days,
    today: date,
    last: date,
) -> Mapping[str, object]:
    """Returns all that the pages of a site follow from, by name: nothing that today has spent."""
    policy = held.in_force(today)
    streams = [part.id for part in policy.streams if part.id in spent] if policy else []
    return {
        "dates": (today, last),
        "policies": [signed.hash for signed in ctx.policies(site.id)],
        "spent": {name: [spent[name].habit(last, days) for days in accounts.SPANS.values()] for name in streams},
        "paused": stopped,
    }


MAKER = Maker(files, (Link("privacy.link", FOLDER),))


def _overview(
    ctx: Build,
    say: Language,
    held: Mapping[str, Decisions],
    spent: Mapping[str, accounts.Spent],
    today: date,
    last: date,
) -> Iterator[tuple[str, bytes]]:
    rules = [(policy, part) for one in held.values() if (policy := one.in_force(today)) for part in policy.streams]
    signed = ctx.archive.signed_checkpoint()
    checkpoint = Checkpoint(signed[0], signed[2].decode().split("\n")[2]) if signed else None
    worst = max((part.epsilon, part.delta) for _, part in rules) if rules else None
    for part in parts(FOLDER, ctx.city.site, SITES_A_PAGE):
        lines = []
        for site in part.items:
            rho, delta = habits(held[site.id].in_force(today), spent, last, 1)
            streams = _streams(held[site.id].in_force(today))
            paused = held[site.id].paused(streams)
            words = say("privacy.idle")
            if rho:
                words = say("privacy.site", guesses=guesses(say, accounts.risk(rho, delta)))
            stopped = "all_paused" if len(paused) == len(streams) else "some_paused"
            lines.append((site, words, say(f"privacy.{stopped}") if paused else ""))
        yield ctx.page(
            "privacy.html",
            say,
            part.path,
            title=say("privacy.page_title", city=ctx.city.city),
            part=part,
            lines=lines,
            day=say.civil(last),
            worst=_worst(say, *worst) if worst else "",
            ledger=months.LEDGER,
            checkpoint=checkpoint,
            journal=journal.CHECKPOINT,
            centre=journal.CENTRE,
        )


def _worst(say: Language, epsilon: Decimal, delta: Decimal) -> str:
    found = accounts.risk(accountant.rho_micro(epsilon, delta), delta)
    return say("privacy.worst", epsilon=say.number(epsilon.normalize()), guesses=guesses(say, found))


def _site(
    ctx: Build,
    say: Language,
    site: Site,
    held: Decisions,
    spent: Mapping[str, accounts.Spent],
    stopped: Days,
    today: date,
    last: date,
) -> Iterator[tuple[str, bytes]]:
    policy = held.in_force(today)
    streams = list(policy.streams) if policy else []
    told = _decided(say, held)
    quantities = {one.id: one.quantity.name for rule in reversed(held.policies) for one in rule.streams}
    past = told_pauses(say, pauses(stopped, held), quantities, PAUSES_SHOWN)
    together = []
    for span, days in accounts.SPANS.items():
        rho, delta = habits(policy, spent, last, days)
        found = accounts.risk(rho, delta)
        together.append((say(f"privacy.span_{span}"), say.number(found.epsilon), guesses(say, found)))
    for page in parts(f"{FOLDER}{site.id}/", streams, STREAMS_A_PAGE):
        yield ctx.page(
            "privacy_site.html",
            say,
            page.path,
            title=say("privacy.site_title", site=site.name, city=ctx.city.city),
            site=site,
            part=page,
            day=say.civil(last),
            series=[_series(say, policy, part, held, spent.get(part.id), last) for part in page.items if policy],
            together=together if len(streams) > 1 else [],
            decided=told[:DECISIONS_SHOWN],
            more=len(told) > DECISIONS_SHOWN,
            pauses=past,
            policies=POLICIES,
            ledger=months.LEDGER,
        )


def _series(
    say: Language, policy: Policy, part: StreamPolicy, held: Decisions, own: accounts.Spent | None, last: date
) -> Series:
    name = say(f"quantity.{part.quantity.name}")
    rows = []
    for span, days in accounts.SPANS.items():
        most = accounts.risk(accounts.allowed(policy, part, days), part.delta)
        used = accounts.risk(own.habit(last, days) if own else 0, part.delta)
        most_said = say.number(part.epsilon.normalize() if days == 1 else most.epsilon)
        rows.append((say(f"privacy.span_{span}"), most_said, say.number(used.epsilon), guesses(say, used)))
    day = accounts.allowed(policy, part, 1)
    several = [accounts.risk(day * count * count, part.delta) for count in _SEVERAL]
    kind = part.quantity.kind
    limit = "" if part.up_to is None else say.number(part.up_to // part.quantity.per_unit)
    pausing = held.pausing(part.id)
    return Series(
        name=name,
        unit=say("privacy.unit", unit=protected(say, part)),
        example=say.counted(f"privacy.example_{kind}", part.protects[1], size=say.number(part.protects[1])),
        several=say(
            f"privacy.several_{kind}",
            **{f"n{count}": guesses(say, found) for count, found in zip(_SEVERAL, several, strict=True)},
        ),
        left_out=say(f"promise.above_{kind}", limit=limit) if limit else "",
        paused=say("privacy.paused", version=pausing.version) if pausing else "",
        caption=say("privacy.caption", what=name, delta=say.number(part.delta.normalize())),
        rows=rows,
    )


def habits(policy: Policy | None, spent: Mapping[str, accounts.Spent], last: date, days: int) -> tuple[int, Decimal]:
    """Returns the micro-rho that one unit of each stream a day has cost together, and the largest delta of them."""
    if policy is None:
        return 0, Decimal("0.000001")
    rho = sum(spent[part.id].habit(last, days) for part in policy.streams if part.id in spent)
    return rho, max(part.delta for part in policy.streams)


def guesses(say: Language, found: accounts.Risk) -> str:
    """Returns in words how often somebody guesses right whom this risk helps."""
    return say("privacy.nearly_all") if found.guesses > NEARLY_ALL else say("privacy.guesses", number=found.guesses)


def _streams(policy: Policy | None) -> list[str]:
    return [part.id for part in policy.streams] if policy else []


def _decided(say: Language, held: Decisions) -> list[Decided]:
    found = []
    for policy, before in zip(held.policies, [*held.policies, None][1:], strict=True):
        found.append(
            Decided(
                version=policy.version,
                dates=say("privacy.dates", first=say.civil(policy.valid_from), last=say.civil(policy.valid_until)),
                decision=say.typeset(policy.decision),
                reason=say.typeset(policy.reason),
                changes=changes(say, policy, before),
                path=f"{POLICIES}{policy.hash.hex()}",
            )
        )
    return found
