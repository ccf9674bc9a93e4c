"""What paper, telephone and feeds say of a day that is over: for each stream the very sentence of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from murmure_privacy.window import Window

from murmure_dashboards import codes
from murmure_dashboards.answers import Answered, Answerer
from murmure_dashboards.config import Quartier, Site
from murmure_dashboards.facts import Fact, of_day
from murmure_dashboards.left_out import told as told_left_out
from murmure_dashboards.maker import Build
from murmure_dashboards.story import Teller
from murmure_dashboards.usual import Past
from murmure_dashboards.views import StreamView
from murmure_dashboards.wording import Language, capital

_LONGEST_NAME = 30


@dataclass(frozen=True, slots=True)
class Said:
    """One stream on one day, in one language. `label`: the quantity; `number` with its unit; `interval`: in brackets,
    "" where there is no number; `detail`: the brackets and over what; `notes`: how long the sensor was silent, what
    stewards marked as faulty, why there is no figure. `told`: whether there is a number; `left`: whether there is none
    since the policy in force leaves the stream out; `faulty`: whether stewards marked some of the day; `code`: the
    short code of the day's figure, "" where there is none, or where it comes from several nodes."""

    site: Site
    stream: str
    quantity: str
    label: str
    number: str
    interval: str
    detail: str
    notes: str
    told: bool
    left: bool
    faulty: bool
    code: str


def final(ctx: Build, quartier: Quartier, day: Window) -> bool:
    """Returns whether no figure of a day can move any more: that of a stream with weeks does until its Sunday."""
    return all(
        figure.state == "final"
        for _, view in _streams(ctx, quartier)
        for figure in view.figures
        if figure.level == "1d" and figure.start_s == day.start_s
    )


def settled_s(ctx: Build, quartier: Quartier, day: Window) -> int:
    """Returns when all that is told of a day has ended: with it, or with the week or night that moves it."""
    levels = {
        level
        for _, view in _streams(ctx, quartier)
        for level in (*(one.level for one in view.figures), *(dict(view.rule[1].nodes) if view.rule else ()))
    }
    return max(day.end_s, ctx.calendar.period(levels, day.end_s - 1).end_s)


def said(ctx: Build, say: Language, quartier: Quartier, day: Window) -> list[Said]:
    """Returns what is to be said of a day that is over, in the order of a page; nothing of what had not begun."""
    teller = Teller(say)
    found = []
    for site, view in _streams(ctx, quartier):
        if view.first_s >= day.end_s:
            continue
        number, detail = teller.key(view, day, "day")
        told = bool(detail) and detail != say("key.wide")
        marks = [mark for mark in view.marks if mark.to_s > day.start_s and mark.from_s < day.end_s]
        notes = [teller.silence(view, day), *(teller.fault(view, mark) for mark in marks)]
        state = "figure" if detail else view.day_slot(day).state
        if state == "left":
            by = [one for one in view.left if one.holds(day)]
            notes += [told_left_out(say, one, ctx.calendar, ctx.now_s) for one in by]
        elif not detail:
            notes.append(say("spoken.cause", reason=capital(say(f"state.{state}"))))
        found.append(
            Said(
                site=site,
                stream=view.stream,
                quantity=view.quantity.name,
                label=say(f"quantity.{view.quantity.name}"),
                number=number if told or not detail else say("spoken.undecided"),
                interval=f"{detail.partition(')')[0]})" if told else "",
                detail=detail if told else "",
                notes=" ".join(filter(None, notes)),
                told=told,
                left=state == "left",
                faulty=bool(marks),
                code=codes.of_day(view, day) if told and ctx.coded else "",
            )
        )
    return found


def known(ctx: Build, views: Mapping[str, Sequence[StreamView]]) -> dict[str, Fact | None]:
    """Returns what is known of each stream on a day. `views`: the streams over that day alone, by site."""
    past = Past(ctx.archive, ctx.rules, ctx.marks, ctx.calendar, ctx.now_s, ctx.store)
    return {view.stream: of_day(view, site, past) for site in ctx.city.site for view in views.get(site.id, ())}


def in_brief(ctx: Build, say: Language, quartier: Quartier, day: Window, facts: Mapping[str, Fact | None]) -> str:
    """Returns whether a day was as usual, and where the air lies beside the limits of a day, in a few short sentences;
    "" where nothing is measured."""
    several = len(ctx.city.sites_of(quartier.slug)) > 1
    of = []
    for site, view in _streams(ctx, quartier):
        if facts.get(view.stream) is None and not view.day_slot(day).missing:
            continue  # nothing was to come, or not yet
        name = say(f"quantity.{view.quantity.name}")
        name = name if name[1:2].isupper() else f"{name[:1].lower()}{name[1:]}"
        place = f" ({cut(site.name, _LONGEST_NAME)})" if several else ""
        of.append((f"{name}{place}", facts.get(view.stream)))
    return Answerer(say, ctx.thresholds, ctx.calendar.zone, ctx.calendar.civil_day(day.start_s)).brief(
        of, answered(ctx, quartier, len(of))
    )


def answered(ctx: Build, quartier: Quartier, told: int) -> Answered:
    """Returns whether so many streams are all that the sensors of a neighbourhood give: `never` where nothing has come
    from one yet, `came` where something is left out of what is published, or due later."""
    sites = ctx.city.sites_of(quartier.slug)
    come = {info.stream for site in sites for info in ctx.streams_of(site.id)}
    listed = {sensor.stream for site in sites for sensor in site.sensor}
    if not listed <= come:
        return "never"
    return "whole" if told == len(come) and all(ctx.streams_of(site.id) for site in sites) else "came"


def without_often(say: Language, text: str) -> str:
    """Returns a text whose intervals do not say how often they hold: where that is said once for all."""
    return text.replace(f", {say('number.often')}", "")


def _streams(ctx: Build, quartier: Quartier) -> Iterator[tuple[Site, StreamView]]:
    for site in ctx.city.sites_of(quartier.slug):
        for view in ctx.over_days(site.id):
            yield site, view


def places(found: Sequence[Said]) -> list[tuple[Site, list[Said]]]:
    """Returns what is said, by place."""
    by_place: dict[str, tuple[Site, list[Said]]] = {}
    for one in found:
        by_place.setdefault(one.site.id, (one.site, []))[1].append(one)
    return list(by_place.values())


def cut(text: str, most: int) -> str:
    """Returns a text, without its last words where it is too long for its place."""
    if len(text) <= most:
        return text
    return text[:most].rpartition(" ")[0] or text[:most]
