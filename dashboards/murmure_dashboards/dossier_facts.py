"""What the file for the data protection officer tells, before it is put into words (`dossier`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

from murmure_ingest.archive import Archive, Holding
from murmure_ingest.archive_watch import Overview, Watch
from murmure_privacy.errors import ConfigError, MurmureError
from murmure_privacy.plan import StreamPlan
from murmure_privacy.policies import Rules
from murmure_privacy.policy import Policy, StreamPolicy
from murmure_privacy.stream import QUANTITIES, Quantity
from murmure_privacy.window import Calendar

from murmure_dashboards import accounts, months
from murmure_dashboards.config import City, Site
from murmure_dashboards.decisions import Decisions, decisions

DAY_S = 86_400
EVER_S = 1 << 40
_MONTH = re.compile(r"releases-(\d{4})-(\d{2})\.csv")


@dataclass(frozen=True, slots=True)
class Settings:
    """What ingest.toml says. `kept_days`: after how many days what is no release is dropped, None for never, by the
    keys of its `[retention]`; empty without one. `mirror`: the machine with the database, "" where there is none."""

    kept_days: Mapping[str, int | None]
    mirror: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy that is not published yet, and the file that it was read from."""

    policy: Policy
    source: str


class DossierError(MurmureError):
    """There is nothing to write a file about: publish a policy first."""


@dataclass(frozen=True, slots=True)
class Group:
    """The places where one series has the same rule: they differ in nothing that is told here. `policy` and `plan` are
    those of the first. A place stands there once for each of its series with that rule."""

    part: StreamPolicy
    policy: Policy
    plan: StreamPlan
    sites: Sequence[Site]

    @property
    def quantity(self) -> Quantity:
        return self.part.quantity

    @property
    def rule(self) -> tuple[Policy, StreamPolicy]:
        return self.policy, self.part

    @property
    def published(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Published:
    """What a published site holds: its files of figures by month as (year, month), how many lines its ledger has, and
    what was spent by `last`."""

    months: Sequence[tuple[int, int]]
    lines: int
    spent: Mapping[str, accounts.Spent]
    last: date


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is told, before it is put into words. `live`: by site id, the policy that is in force on `today`, or is
    to come; `unlisted`: sites with data that city.toml does not name. `day`, `held`: by stream, nodes that ended in the
    last 24 hours, and all. `spoken`: messages of these 24 hours, by gateway. `draft`: a policy that is not published,
    which stands in `live` as if it were in force at its site."""

    city: City
    calendar: Calendar
    now_s: int
    today: date
    held: Mapping[str, Decisions]
    live: Mapping[str, Policy]
    groups: Sequence[Group]
    unlisted: Sequence[str]
    config: Settings | None
    published: Published | None
    seen: Overview
    site_of: Mapping[str, str]
    quantities: Mapping[str, str]
    ever: Mapping[str, Holding]
    day: Mapping[str, Holding]
    spoken: Mapping[str, int]
    policies: int
    draft: Policy | None = None


def look(
    archive: Archive,
    city: City,
    now_s: int,
    config: Settings | None,
    site: Path | None,
    draft: Draft | None = None,
) -> Facts:
    """Returns what there is to tell. Raises DossierError and ConfigError as `dossier.build` does."""
    signed = archive.policies()
    if not signed and draft is None:
        raise DossierError(f"{archive.path}: policies: none; publish one first, with 'murmure policy publish'")
    calendar = Calendar(city.timezone)
    today = calendar.civil_day(now_s)
    rules = Rules(archive)
    held = {one.id: decisions(archive, rules, one.id) for one in city.site}
    live = {name: policy for name, one in held.items() if (policy := _holding(one, today))}
    if draft is not None:
        _require_draft(draft, held, today)
        live[draft.policy.site] = draft.policy
    listed, infos = {one.id for one in city.site}, archive.streams()
    return Facts(
        city=city,
        calendar=calendar,
        now_s=now_s,
        today=today,
        held=held,
        live=live,
        groups=_groups(city, live),
        unlisted=sorted(({info.site for info in infos} | {one.site for one in signed}) - listed),
        config=config,
        published=_published(site, today) if site else None,
        seen=Watch(archive, spendings=0, caps=0).look(now_s),
        site_of={info.stream: info.site for info in infos},
        quantities={info.stream: info.quantity for info in infos},
        ever=archive.holdings(0, EVER_S),
        day=archive.holdings(now_s - DAY_S, now_s),
        spoken=archive.spoken(now_s - DAY_S, now_s),
        policies=len(signed),
        draft=draft.policy if draft else None,
    )


def _require_draft(draft: Draft, held: Mapping[str, Decisions], today: date) -> None:
    """Raises ConfigError for what could not be the next policy of a place of the town."""
    policy, source = draft.policy, draft.source
    if policy.site not in held:
        raise ConfigError(source, "site", f"{policy.site!r} is no id of a [[site]]", f"write one of {', '.join(held)}")
    newest = max((one.version for one in held[policy.site].policies), default=0)
    if any(one.hash == policy.hash for one in held[policy.site].policies):
        raise ConfigError(source, "version", f"{policy.version} is published already", "leave --policy out")
    if policy.version <= newest:
        problem = f"{policy.version} does not come after {newest}"
        raise ConfigError(source, "version", problem, f"write version = {newest + 1}")
    if policy.valid_until < today:
        raise ConfigError(source, "valid_until", f"{policy.valid_until} is over", "write a later date")


def _holding(held: Decisions, today: date) -> Policy | None:
    """Returns the policy in force; without one the first that is to come, of which people ask before it begins."""
    policy = held.in_force(today)
    if policy is not None and today <= policy.valid_until:
        return policy
    return next((one for one in reversed(held.policies) if today < one.valid_from), None)


def _groups(city: City, live: Mapping[str, Policy]) -> list[Group]:
    found: dict[str, Group] = {}
    for site in city.site:
        policy = live.get(site.id)
        for part in policy.streams if policy else ():
            assert policy is not None
            same = repr(replace(part, id=part.quantity.name))
            if same in found:
                found[same] = replace(found[same], sites=[*found[same].sites, site])
            else:
                found[same] = Group(part, policy, accounts.planned(policy).streams[part.id], [site])
    order = list(QUANTITIES)
    return sorted(found.values(), key=lambda one: order.index(one.quantity.name))


def _published(site: Path, today: date) -> Published:
    ledger = site / months.LEDGER
    if not ledger.is_file():
        raise ConfigError(str(site), "--site", "holds no published site", "name the --out of `murmure site build`")
    lines = ledger.read_bytes().splitlines()
    # Neither a day that still runs, nor one that came after the site was built.
    newest = max((date.fromisoformat(json.loads(line)["day"]) for line in lines), default=today)
    named = (_MONTH.fullmatch(file.name) for file in (site / months.FOLDER).iterdir())
    return Published(
        months=sorted((int(one[1]), int(one[2])) for one in named if one),
        lines=len(lines),
        spent=accounts.spent(lines),
        last=min(newest, today - timedelta(1)),
    )


def undecided(facts: Facts) -> Iterator[tuple[str, Sequence[str]]]:
    """Yields what the town has yet to decide or write: a key, and the places that it is about."""
    if facts.draft is not None:
        yield "draft", [site.name for site in facts.city.site if site.id == facts.draft.site]
    for key in ("role", "due", "anonymous", "consult", "host", "use"):
        yield key, ()
    sites = facts.city.site
    for key, places in (
        ("basis", [one.name for one in sites if not one.legal_basis]),
        ("end", [one.name for one in sites if one.until is None]),
        ("rule", [one.name for one in sites if one.id not in facts.live]),
        ("unlisted", facts.unlisted),
    ):
        if places:
            yield key, places
    if facts.city.answer_days is None:
        yield "answer", ()
    if not facts.city.postal:
        yield "postal", ()
    if facts.config is None:
        yield "config", ()
    elif not facts.config.kept_days:
        yield "kept", ()


@cache
def longest_s(calendar: Calendar, level: str, year: int) -> int:
    """Returns how many seconds the longest node of a level has in a year: a day may have 25 hours."""
    at_s, end_s, longest = calendar.midnight(date(year, 1, 1)), calendar.midnight(date(year + 1, 1, 1)), 0
    while at_s < end_s:
        node = calendar.node(level, at_s)
        longest, at_s = max(longest, node.end_s - node.start_s), node.end_s
    return longest
