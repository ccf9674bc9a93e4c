"""The day of a neighbourhood without a screen: a message of 160 letters, and a text to read out on the telephone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime

from murmure_privacy.window import Window

from murmure_dashboards import daily
from murmure_dashboards.config import Quartier
from murmure_dashboards.daily import Said, cut
from murmure_dashboards.maker import Build
from murmure_dashboards.wording import Language, capital

MOST_LETTERS = 160
MOST_WORDS = 65
"""Half a minute at 130 words a minute, an easy pace."""
GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The basic alphabet of 3GPP TS 23.038, which counts one letter each: with any other, a message holds 70."""
_SIGNS = str.maketrans({"\u2019": "'", "–": "-", "\u2212": "-", "µ": "u", "œ": "oe", "Œ": "OE", "«": '"', "»": '"'})
_THOUSANDS = re.compile(r"(?<=\d)[\s,](?=\d{3}\b)")
_LONGEST_NAME, _LONGEST_PHONE, _LONGEST_SPOKEN_NAME = 20, 18, 30


def message(ctx: Build, say: Language, quartier: Quartier, day: Window | None, found: Sequence[Said]) -> str:
    """Returns the day, of which `found` is said, in at most 160 letters of GSM-7, each number with its interval, and
    its code or where that is. What does not fit is left out whole, last streams first, and the message says where to
    ask for it."""
    head = [say("message.simulated")] if ctx.city.simulated else []
    name = cut(quartier.name, _LONGEST_NAME)
    if day is None or not found:
        return _gsm_7(" ".join([*head, f"{name} :", f"{_nothing(ctx, say, quartier)}."]))
    when = datetime.fromtimestamp(day.start_s, ctx.calendar.zone)
    weekday = say.short_days[when.weekday()]
    head.append(say("message.head", quartier=name, weekday=weekday, day=when.day, month=when.month))
    several = len(daily.places(found)) > 1
    phone = ctx.city.phone if len(ctx.city.phone) <= _LONGEST_PHONE else ""
    for count in range(len(found), 0, -1):
        some = found[:count]
        told = any(one.told for one in some)
        # A figure more goes before the codes of the others, and not before the words that lead to them.
        ways = [(True, not all(one.code for one in some if one.told)), (False, True)] if told and ctx.coded else []
        for coded, led in [*ways, *([] if ways and count > 1 else [(False, False)])]:
            parts = [*head, *_pieces(say, some, several, coded)]
            if told:
                parts.append(say("message.often"))
            if led:
                parts.append(say("message.codes"))
            if count < len(found) and phone:
                parts.append(say("message.more", phone=phone))
            text = _gsm_7(" ".join(parts))
            if len(text) <= MOST_LETTERS:
                return text
    return text


def _nothing(ctx: Build, say: Language, quartier: Quartier) -> str:
    """Returns why there is nothing to say of a day."""
    sites = ctx.city.sites_of(quartier.slug)
    if not sites:
        return say("spoken.none")
    return say("spoken.no_day" if any(ctx.streams_of(site.id) for site in sites) else "spoken.nothing")


def _pieces(say: Language, found: Sequence[Said], several: bool, coded: bool) -> list[str]:
    pieces: list[str] = []
    for site, of_place in daily.places(found):
        if several:
            pieces.append(say("message.place", place=cut(site.name, _LONGEST_NAME)))
        for one in of_place:
            # A space inside a number is one letter too many, and telephones break the line there.
            figure = _THOUSANDS.sub("", " ".join(filter(None, (one.number, daily.without_often(say, one.interval)))))
            key = "message.none_footfall" if one.quantity == "footfall" and not one.told else f"message.{one.quantity}"
            said = [say(key, figure=figure), *([say("message.faulty")] if one.faulty else [])]
            pieces.append(f"{', '.join([*said, *([one.code] if coded and one.code else [])])}.")
    return pieces


def telephone(
    ctx: Build, say: Language, quartier: Quartier, day: Window | None, found: Sequence[Said], brief: str
) -> list[str]:
    """Returns what to read out, `brief` first, in paragraphs of at most half a minute. Each can stand alone: who
    answers reads the next one to whoever wants to hear more. The last one says where the codes are: nobody notes down
    ten letters by ear."""
    on_s = day.start_s if day else ctx.today.start_s
    date = say.date(on_s, ctx.calendar.zone).rpartition(" ")[0]  # nobody asks for the year
    head = say(
        "spoken.head",
        city=cut(ctx.city.city, _LONGEST_SPOKEN_NAME),
        quartier=cut(quartier.name, _LONGEST_SPOKEN_NAME),
        date=date,
    )
    start = f"{head} {say('spoken.simulated')}" if ctx.city.simulated else head
    if not found:
        return [f"{start} {capital(_nothing(ctx, say, quartier))}."]
    paragraphs: list[str] = []
    if brief and spoken_words(f"{start} {brief}") <= MOST_WORDS:
        paragraphs, start = [f"{start} {brief}"], ""
    body, told, place = start, False, ""
    for one in found:
        sentence, new = _sentence(say, one), cut(one.site.name, _LONGEST_SPOKEN_NAME)
        named = f"{say('spoken.place', place=new)} {sentence}"
        more = f"{body} {named if new != place else sentence}".lstrip()
        if (
            body
            and spoken_words(f"{more} {say('spoken.often')}") > MOST_WORDS
            and (told or paragraphs or body != start)
        ):
            paragraphs.append(_closed(say, body, told))
            more, told = named, False
        body, told, place = more, told or one.told, new
    paragraphs.append(_closed(say, body, told))
    if ctx.coded and any(one.told for one in found):
        paragraphs.append(say("spoken.codes"))
    return paragraphs


def _closed(say: Language, body: str, told: bool) -> str:
    return f"{body} {say('spoken.often')}" if told else body


def _sentence(say: Language, one: Said) -> str:
    units = {"dB": say("spoken.unit_noise"), "µg/m³": say("spoken.unit_air")}
    number = one.number
    for sign, words in units.items():
        number = number.replace(sign, words)
    interval = daily.without_often(say, one.interval).strip("()")
    label = say(f"spoken.name_{one.quantity}")
    key = "spoken.figure" if interval else "spoken.bare"
    if one.told and one.quantity == "footfall":  # passages are their own name
        key = "spoken.counted"
    said = say(key, label=label, number=number, interval=interval)
    return f"{said} {say('spoken.faulty')}" if one.faulty else said


def spoken_words(text: str) -> int:
    """Returns how many words are said when a text is read out, at most: two for each figure of a number but zeros
    (`neuf cents`, `soixante et onze`), one for its decimal sign, at least one for a number."""
    words = 0
    for word in _THOUSANDS.sub("", text).split():
        digits = re.findall(r"\d", word)
        if digits:
            words += max(1, 2 * sum(digit != "0" for digit in digits)) + bool(re.search(r"\d[.,]\d", word))
        words += bool(re.search(r"[^\W\d]", word))
    return words


def _gsm_7(text: str) -> str:
    """Returns a text in the letters of GSM-7: an accent that has no place there is left out."""
    letters = []
    for letter in text.translate(_SIGNS):
        if letter in GSM_7:
            letters.append(letter)
        else:
            plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
            letters.append("".join(part if part in GSM_7 else "?" for part in plain))
    return "".join(letters).replace(" :", ":")
