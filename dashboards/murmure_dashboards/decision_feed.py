"""The Atom feed of what was decided: every policy and pause, every annotation and what was taken back, newest first.

It is dated by what is signed and by the transparency log. A policy that was published before there was a log is dated
by its first day, or, until that has come, by the first day of the policy before it: nothing is dated after now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from murmure_privacy.annotation import Annotation, Note
from murmure_privacy.policy import Policy
from murmure_privacy.window import parse_utc

from murmure_dashboards.changes import changes
from murmure_dashboards.config import Site
from murmure_dashboards.decisions import Decisions, decisions
from murmure_dashboards.feed import Feed
from murmure_dashboards.maker import Build, Maker
from murmure_dashboards.pages import address
from murmure_dashboards.wording import LANGUAGES, Language, language

FOLDER = "vie-privee/"
PATH = f"{FOLDER}atom.xml"
MOST_ENTRIES = 100
_SPEND = b'"kind":"spend"'
_TOLD = (b'"kind":"policy"', b'"kind":"enrolment"', b'"kind":"revocation"')


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log says. `published`: when each policy was published, by hash, where that is known; `revoked`: gateway
    and site of each that may speak no more, with the instant that was over when that was written."""

    published: Mapping[str, int]
    revoked: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the feed in one language, as `Feed.entry` takes it."""

    name: str
    title: str
    summary: str
    updated_s: int
    path: str


def files(ctx: Build) -> Iterator[tuple[str, bytes]]:
    """Yields the feed in each language."""
    held = {site.id: decisions(ctx.archive, ctx.rules, site.id) for site in ctx.city.site}
    notes = [one.note for one in ctx.archive.annotations() if one.note.issued_s <= ctx.now_s]
    logged = _logged(ctx)
    for code in LANGUAGES:
        say = language(code)
        found = [*_policies(ctx, say, held, logged), *_notes(ctx, say, notes), *_revocations(ctx, say, logged)]
        title = say("decided.title", city=ctx.city.city)
        feed = Feed(ctx.city, say, FOLDER, title, say("decided.subtitle"), ctx.week.start_s)
        for one in sorted(found, key=lambda one: (one.updated_s, one.name), reverse=True)[:MOST_ENTRIES]:
            summary = f"{say('page.simulated')}\n{one.summary}" if ctx.city.simulated else one.summary
            feed.entry(one.name, one.title, summary, one.updated_s, None, one.path)
        yield address(code, PATH), feed.written()


MAKER = Maker(files)


def _logged(ctx: Build) -> Logged:
    published: dict[str, int] = {}
    sites: dict[str, str] = {}
    revoked = []
    known_s, account = 0, b""
    for line in ctx.archive.log_entries():
        if _SPEND in line:
            account = line  # nearly all are such: the last before a revocation is enough to date it
        if not any(kind in line for kind in _TOLD):
            continue
        told = json.loads(line)
        if told["kind"] == "policy" and told["published"] is not None:
            published[told["hash"]] = parse_utc(told["published"])
            known_s = max(known_s, published[told["hash"]])
        elif told["kind"] == "enrolment":
            sites[told["gateway"]] = told["site"]
        elif told["kind"] == "revocation":
            if account:
                known_s = max(known_s, parse_utc(f"{json.loads(account)['day']}T00:00:00Z") + 86_400)
            revoked.append((told["gateway"], sites.get(told["gateway"], ""), known_s))
    return Logged(published, tuple(revoked))


def _policies(ctx: Build, say: Language, held: Mapping[str, Decisions], logged: Logged) -> Iterator[Entry]:
    for site in ctx.city.site:
        known = held[site.id].policies
        for policy, before in zip(known, [*known, None][1:], strict=True):
            paused = policy.paused or all(part.paused for part in policy.streams)
            dates = say("privacy.dates", first=say.civil(policy.valid_from), last=say.civil(policy.valid_until))
            said = [
                say("decided.by", decision=say.typeset(policy.decision)),
                say("decided.why", reason=say.typeset(policy.reason)),
                say("decided.when", version=policy.version, dates=dates),
                *(changes(say, policy, before) or [say("decided.first" if before is None else "decided.same")]),
            ]
            yield Entry(
                name=f"{site.id}/{policy.version}",
                title=say("decided.pause" if paused else "decided.policy", site=site.name, version=policy.version),
                summary="\n".join(said),
                updated_s=_dated_s(ctx, policy, before, logged),
                path=f"{site.id}/",
            )


def _dated_s(ctx: Build, policy: Policy, before: Policy | None, logged: Logged) -> int:
    """Returns since when a policy is known, as far as that is known itself."""
    published_s = logged.published.get(policy.hash.hex())
    if published_s is not None:
        return published_s
    days = [policy.valid_from, *([before.valid_from] if before else [])]
    begun = [ctx.calendar.midnight(day) for day in days]
    return next((at_s for at_s in begun if at_s <= ctx.now_s), ctx.week.start_s)


def _notes(ctx: Build, say: Language, notes: list[Note]) -> Iterator[Entry]:
    sites = {site.id: site for site in ctx.city.site}
    of = {info.stream: info.quantity for info in ctx.streams}
    for note in notes:
        site = sites.get(note.site)
        if site is None:
            continue
        sentence = note.sentence_en if say.code == "en" and note.sentence_en else note.sentence
        if isinstance(note, Annotation):
            what = say(f"quantity.{of[note.stream]}") if note.stream in of else note.stream
            title = say("decided.marked", site=site.name, what=what)
            head = say("faulty.head", when=_span(ctx, say, note), cause=say(f"cause.{note.cause}"))
            said = [head, say.typeset(sentence), say("faulty.stays")]
        else:
            title = say("decided.unmarked", site=site.name, number=note.withdraws)
            said = [say("decided.taken_back", number=note.withdraws), say.typeset(sentence)]
        yield Entry(f"{site.id}/note-{note.number}", title, "\n".join(said), note.issued_s, f"{site.id}/")


def _span(ctx: Build, say: Language, note: Annotation) -> str:
    zone = ctx.calendar.zone
    return say(
        "faulty.long",
        first=say.date(note.from_s, zone),
        start=say.clock(note.from_s, zone),
        last=say.date(note.to_s, zone),
        end=say.clock(note.to_s, zone),
    )


def _revocations(ctx: Build, say: Language, logged: Logged) -> Iterator[Entry]:
    sites: Mapping[str, Site] = {site.id: site for site in ctx.city.site}
    for gateway, where, known_s in logged.revoked:
        site = sites.get(where)
        if site is not None:
            title = say("decided.revoked", site=site.name)
            summary = say("decided.silent", gateway=gateway)
            yield Entry(f"{site.id}/{gateway}", title, summary, known_s or ctx.week.start_s, f"{site.id}/")
