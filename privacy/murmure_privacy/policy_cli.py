"""`murmure policy new`, `policy pause` and `policy diff`: a policy from few answers, one that pauses, and what a change
takes, in words."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from murmure_privacy.speaking import add_lang, speaking

if TYPE_CHECKING:
    from murmure_privacy.plan import Plan
    from murmure_privacy.policy import Policy

_STREAMS = ("footfall", "noise", "pm1", "pm2_5", "pm10")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser], today: Callable[[], date]) -> None:
    """Adds these commands to the group `policy`. `today`: the day on which a new policy begins, if none is named."""
    new = commands.add_parser(
        "new",
        help="write a complete policy from few answers",
        description=(
            "Writes a complete policy with comments: what is not said is as in policy.example.toml. With --target the\n"
            "smallest epsilon is found that gives a figure this margin (19 times out of 20)."
        ),
        epilog=(
            'example: murmure policy new --site plaza --stream footfall --until 2027-11-30 --decision "D 2026-42" '
            '--reason "Compter avant et après." --target footfall=1h:15 --out plaza.toml\n'
            "example: murmure policy new --site plaza --stream noise --until 2027-11-30 --after plaza-1.toml"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    new.set_defaults(handler=speaking(partial(_new, today=today)))
    new.add_argument("--site", required=True, metavar="SITE", help="the site")
    new.add_argument("--stream", required=True, action="append", choices=_STREAMS, help="what is measured; repeat")
    new.add_argument("--until", required=True, metavar="DATE", help="the last day, such as 2027-11-30")
    new.add_argument("--from", dest="first", metavar="DATE", help="the first day (today)")
    new.add_argument("--timezone", default="Europe/Paris", metavar="ZONE", help="of the site (Europe/Paris)")
    new.add_argument("--decision", metavar="TEXT", help="the reference of the deliberation; nothing is signed without")
    new.add_argument("--reason", metavar="TEXT", help="why it is measured, for residents")
    new.add_argument("--after", type=Path, metavar="OLDER", help="the policy before it: its version and one more (1)")
    for option, what in (
        ("--epsilon", "QUANTITY=EPSILON: for one unit of privacy (1.0); repeat"),
        ("--target", "QUANTITY=NODE:MARGIN instead of an epsilon; repeat"),
        ("--protects", "QUANTITY=N: crossings, or seconds, that are protected together; repeat"),
        ("--up-to", "QUANTITY=LEVEL: protect up to this level only, without an upper clamp; repeat"),
    ):
        new.add_argument(option, action="append", default=[], metavar="QUANTITY=…", help=what)
    new.add_argument("--out", type=Path, metavar="FILE", help="where to write it; it must not exist (stdout)")
    pause = commands.add_parser(
        "pause",
        help="write the next version of a policy, which pauses publication",
        description=(
            "Writes the next version of a policy: it pauses the whole site, and changes nothing else. One signature\n"
            "is enough (two, where gateways were enrolled with --signatures 2), and a gateway follows as soon as it\n"
            "hears of it. To go on takes what any loosening takes."
        ),
        epilog="example: murmure policy pause plaza-3.toml --out plaza-4.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pause.set_defaults(handler=speaking(_pause))
    pause.add_argument("older", type=Path, metavar="POLICY", help="the newest policy of the site, TOML or signed")
    pause.add_argument(
        "--decision", metavar="TEXT", help="who decided the pause; else the policy's own decision stands"
    )
    pause.add_argument("--out", type=Path, metavar="FILE", help="where to write it; it must not exist (stdout)")
    diff = commands.add_parser(
        "diff",
        help="say what a newer policy makes tighter or looser, and what that takes",
        description=(
            "Compares two policies of a site, each as TOML or signed: what becomes tighter, what becomes looser, and\n"
            "how many signatures and days that takes. What cannot be compared counts as looser."
        ),
        epilog="example: murmure policy diff plaza-7.toml plaza-8.toml --lang fr",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    diff.set_defaults(handler=speaking(_diff))
    diff.add_argument("old", type=Path, metavar="OLD", help="the policy in force, TOML or signed")
    diff.add_argument("new", type=Path, metavar="NEW", help="the one after it")
    diff.add_argument("--json", action="store_true", help="one JSON document, in both languages")
    for command in (new, pause, diff):
        add_lang(command)


def _pairs(option: str, given: Sequence[str], streams: Sequence[str]) -> dict[str, str]:
    from murmure_privacy.errors import ConfigError

    found: dict[str, str] = {}
    for text in given:
        quantity, _, value = text.partition("=")
        if quantity not in streams or quantity in found or not value:
            mend = f"write QUANTITY=…, once for each of {', '.join(streams)}"
            raise ConfigError("policy new", option, f"{text!r} does not do", mend)
        found[quantity] = value
    return found


def _numbers(option: str, given: Sequence[str], streams: Sequence[str]) -> dict[str, int]:
    from murmure_privacy.errors import ConfigError

    pairs = _pairs(option, given, streams)
    for value in pairs.values():
        if not value.isdecimal() or len(value) > 6:
            raise ConfigError("policy new", option, f"{value!r} is no whole number", f"write {option} QUANTITY=15")
    return {quantity: int(value) for quantity, value in pairs.items()}


def _day(option: str, text: str) -> date:
    from murmure_privacy.errors import ConfigError

    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError("policy new", option, f"{text!r} is no date", "write a date such as 2027-11-30") from error


def _new(args: argparse.Namespace, today: Callable[[], date]) -> int:
    from murmure_privacy import policy_new, preview
    from murmure_privacy.decide import UNDECIDED
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.plan import plan
    from murmure_privacy.policy_words import NEXT, language

    if len(set(args.stream)) < len(args.stream):
        raise ConfigError("policy new", "--stream", "stands twice", "name each quantity once")
    policy_new.require_line("policy new", "--decision", args.decision or None)
    policy_new.require_line("policy new", "--reason", args.reason or None)
    targets = {}
    for quantity, text in _pairs("--target", args.target, args.stream).items():
        node, colon, margin = text.partition(":")
        if not colon or not margin.replace(".", "", 1).isdecimal():
            raise ConfigError("policy new", "--target", f"{text!r} is no margin", "write QUANTITY=NODE:MARGIN, 1h:15")
        targets[quantity] = (node, margin)
    epsilons = _pairs("--epsilon", args.epsilon, args.stream)
    both = sorted(epsilons.keys() & targets)
    if both:
        raise ConfigError("policy new", "--target", f"{both[0]} has an epsilon too", "give one of the two")
    older = None if args.after is None else plan_in(args.after)
    if older is not None and older.policy.site != args.site:
        raise ConfigError(str(args.after), "site", f"is {older.policy.site!r}", f"give a policy of {args.site!r}")
    answers = policy_new.Answers(
        site=args.site,
        streams=args.stream,
        valid_from=today() if args.first is None else _day("--from", args.first),
        valid_until=_day("--until", args.until),
        version=1 if older is None else older.policy.version + 1,
        timezone=args.timezone,
        decision=args.decision or UNDECIDED,
        reason=args.reason or UNDECIDED,
        epsilons=epsilons,
        targets=targets,
        protects=_numbers("--protects", args.protects, args.stream),
        up_to=_numbers("--up-to", args.up_to, args.stream),
    )
    lang = args.lang or language()
    draft = policy_new.write(answers, lang)
    policy, _ = preview.read(draft.encode(), "policy new")
    plan(policy, "policy new")
    return _written(policy, args.out, NEXT[lang])


def _pause(args: argparse.Namespace) -> int:
    from murmure_privacy import policy_new
    from murmure_privacy.policy_words import PAUSED, language

    made = policy_new.paused(plan_in(args.older).policy, str(args.older), args.decision)
    return _written(made, args.out, PAUSED[args.lang or language()])


def _written(policy: Policy, out: Path | None, said: str) -> int:
    from murmure_privacy.errors import ConfigError

    if out is None:
        print(policy.text.decode(), end="")
        return 0
    try:
        with out.open("xb") as file:
            file.write(policy.text)
    except OSError as error:
        mend = "name a file that does not exist yet, in a folder that may be written"
        raise ConfigError(str(out), "--out", error.strerror or str(error), mend) from error
    print(said.format(file=out, version=policy.version, site=policy.site))
    return 0


def plan_in(file: Path) -> Plan:
    """Returns the plan of a policy in a file, TOML or signed; of the signatures nothing is believed."""
    from murmure_privacy import wire
    from murmure_privacy.errors import ConfigError, WireError
    from murmure_privacy.plan import plan
    from murmure_privacy.policy import parse

    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), "file", error.strerror or str(error), "give a readable policy") from error
    if file.suffix == ".cose":
        try:
            data = wire.policy_bytes(data)
        except WireError as error:
            mend = "give a file that 'murmure policy sign' wrote"
            raise ConfigError(str(file), "policy", f"not a signed policy ({error.detail})", mend) from error
    return plan(parse(data, str(file)), str(file))


def _diff(args: argparse.Namespace) -> int:
    from murmure_privacy import policy_words as words
    from murmure_privacy.errors import ConfigError

    old, new = plan_in(args.old), plan_in(args.new)
    if old.policy.site != new.policy.site:
        mend = f"give a policy of {old.policy.site!r}"
        raise ConfigError(str(args.new), "site", f"{new.policy.site!r} is not {old.policy.site!r}", mend)
    change = words.change(old, new)
    if args.json:
        document = {
            "site": new.policy.site,
            "versions": list(change.versions),
            "policies": [f"sha256:{made.policy.hash.hex()}" for made in (old, new)],
            **change.document(),
        }
        print(json.dumps(document, ensure_ascii=False))
        return 0
    lang: words.Lang = args.lang or words.language()
    print("\n".join([f"{new.policy.site}, {old.policy.version} → {new.policy.version}", *words.told(change, lang)]))
    return 0
