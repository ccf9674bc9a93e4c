"""The steward's commands that need nothing but the kernel: `policy check` and `policy preview`."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from murmure_privacy.speaking import add_lang, speaking

if TYPE_CHECKING:
    from murmure_privacy.plan import Plan
    from murmure_privacy.policy import Policy
    from murmure_privacy.policy_words import Both, Lang
    from murmure_privacy.street import Street


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the group `policy`; the centre mounts `sign` and `publish` on it through `groups.murmure_policy`."""
    group = groups.add_parser(
        "policy",
        help="the steward's work: check, preview, sign and publish a policy",
        description="The steward's work: check, preview, sign and publish a policy.",
        epilog="example: murmure policy check policy.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    groups.murmure_policy = commands  # type: ignore[attr-defined]  # the one place where two folders share a group
    check = commands.add_parser(
        "check",
        help="say whether a policy is complete, and what it will cost and show",
        description=(
            "Checks a policy file: every key, the noise of every node, the largest message. With --after also whether\n"
            "it loosens the policy in force, what it then needs (two roles, seven days, the ceiling), and what a\n"
            "gateway withholds until it can take over: a tighter one that is sent early is a pause."
        ),
        epilog=(
            "example: murmure policy check policy.toml\n"
            "example: murmure policy check policy-8.toml --after policy-7.toml"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.set_defaults(handler=speaking(_check))
    preview = commands.add_parser(
        "preview",
        help="show how exact each figure will be, and what habits cost, before anybody signs",
        description=(
            "Shows the error of every final figure, the sensor's own error beside it, what 1, 2, 4 and 10 units of\n"
            "privacy cost over a day, a week, 30 days and a year, which noise indicators are exact enough to be\n"
            "shown, and a level for up_to_db (air: up_to): the lowest that leaves at most 1 % of events out of the\n"
            "promise, since they touch a louder reading.\n\n"
            "What depends on the street is computed on two described streets or, with --readings, on a recording.\n"
            "Give one that is public or already published: a level that is chosen from the readings of a running\n"
            "gateway would tell something of them that no budget has paid for.\n\n"
            'Instead of epsilon, a stream may have target = { node = "1h", error_95 = 15 }: the smallest epsilon is\n'
            "then found, and shown as the line to write. A policy with a target is never signed."
        ),
        epilog=(
            "example: murmure policy preview policy.toml\n"
            "example: murmure policy preview policy.toml --readings street.csv.gz --json"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    preview.add_argument("--readings", type=Path, metavar="FILE", help="a recording of levels or air (CSV, also gzip)")
    preview.add_argument("--site", metavar="SITE", help="the site in the recording, if it has several")
    preview.add_argument("--metric", metavar="METRIC", help="the metric in the recording; default: the finest level")
    preview.set_defaults(handler=speaking(_preview))
    from murmure_privacy import policy_cli

    policy_cli.register(commands, lambda: datetime.now(UTC).date())
    for command in (check, preview):
        command.add_argument("policy", type=Path, metavar="POLICY", help="the policy as TOML")
        command.add_argument("--json", action="store_true", help="one JSON document")
        command.add_argument(
            "--after",
            type=Path,
            metavar="OLDER",
            help="the policy in force: say what this one loosens, needs and withholds",
        )
        add_lang(command)


@dataclass(frozen=True, slots=True)
class _After:
    """What a policy follows. `document`: what it changes and what is withheld from now on, for programs; `told`: what
    it changes and takes, in words; `warnings` in both languages."""

    document: dict[str, Any]
    told: list[str]
    warnings: list[Both]

    def lines(self, others: list[Both], lang: Lang) -> list[str]:
        """Returns all of it in one language; `others`: what else there is to warn of."""
        from murmure_privacy.policy_sheet import Teller

        say = Teller(lang)
        return [*self.told, *(say("warning", text=one[lang]) for one in (*others, *self.warnings))]


def _read(file: Path) -> bytes:
    from murmure_privacy.errors import ConfigError

    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), "file", error.strerror or str(error), "give a readable policy") from error


def _after(args: argparse.Namespace, made: Plan, lang: Lang) -> _After:
    """Returns what follows where this policy comes after the one in force; of one that nobody named, what gateways
    would make of it."""
    from murmure_privacy import change, policy, policy_words
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.plan import plan
    from murmure_privacy.policy_sheet import WORDS, Teller
    from murmure_privacy.window import utc

    say = Teller(lang)
    if args.after is None:
        found_alone = policy_words.alone(made)
        if made.policy.valid_from > datetime.now(UTC).date():
            found_alone.append(dict(zip(policy_words.LANGS, WORDS["after"], strict=True)))
        return _After({"change": None, "withheld": []}, [], found_alone)
    older = plan(policy.parse(_read(args.after), str(args.after)), str(args.after))
    was, now = older.policy, made.policy
    if was.site != now.site:
        raise ConfigError(
            str(args.after), "site", f"{was.site!r} is not {now.site!r}", f"give the policy of {now.site!r}"
        )
    if now.version <= was.version:
        raise ConfigError(
            str(args.policy),
            "version",
            f"{now.version} does not come after {was.version}",
            f"write version = {was.version + 1}",
        )
    holds = change.holds(older, made, int(datetime.now(UTC).timestamp()))
    found = [
        {
            "stream": hold.stream,
            "reason": hold.reason,
            "why": hold.why["en"],
            "from": utc(hold.from_s),
            "until": None if hold.until_s is None else utc(hold.until_s),
        }
        for hold in holds
    ]
    found_change = policy_words.change(older, made)
    head = say(f"way_{found_change.direction}", was=was.version)
    told = [head, *(f"  {line}" for line in policy_words.told(found_change, lang))]
    warnings = [change.warning(hold, older.calendar) for hold in holds]
    return _After({"change": found_change.document(), "withheld": found}, told, warnings)


def _check(args: argparse.Namespace) -> int:
    from murmure_privacy import policy, policy_sheet, policy_words, preview
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.plan import plan
    from murmure_privacy.published import divisor, unit
    from murmure_privacy.wire import MESSAGE_LIMIT, largest_message

    source = str(args.policy)
    parsed = policy.parse(_read(args.policy), source)
    made = plan(parsed, source)
    largest = largest_message(made)
    if largest > MESSAGE_LIMIT:
        raise ConfigError(
            source, "stream", f"the largest message has {largest} bytes of {MESSAGE_LIMIT}", "drop a node"
        )
    lang: Lang = args.lang or policy_words.language()
    follows = _after(args, made, lang)
    dates = preview.dates(parsed, datetime.now(UTC).date())
    streams: list[dict[str, Any]] = [
        {
            "id": stream.stream.id,
            "epsilon": float(stream.stream.epsilon),
            "delta": float(stream.stream.delta),
            "rho_micro": stream.rho_micro,
            "nodes": [
                {
                    "node": node.level,
                    "indicator": one.indicator,
                    "sigma": preview.significant(one.sigma_milli / 1000 / divisor(whole, one.indicator)),
                    "unit": unit(whole, one.indicator),
                    "rho_micro": one.rho_micro,
                }
                for node in stream.nodes
                for whole in [preview.ordinary(stream.stream, node.level)]
                for one in node.indicators
            ],
        }
        for stream in made.streams.values()
    ]
    document = {
        "policy": f"sha256:{parsed.hash.hex()}",
        "streams": streams,
        "site": preview.site_price(made),
        "largest_message": largest,
        **follows.document,
        "warnings": [one["en"] for one in (*dates, *follows.warnings)],
    }
    if args.json:
        print(json.dumps(document))
        return 0
    lines = follows.lines(dates, lang)
    print("\n".join(policy_sheet.checked(document, parsed, source, MESSAGE_LIMIT, lines, lang)))
    return 0


def _preview(args: argparse.Namespace) -> int:
    from murmure_privacy import policy_sheet, policy_words, preview
    from murmure_privacy.plan import plan

    source, today = str(args.policy), datetime.now(UTC).date()
    lang: Lang = args.lang or policy_words.language()
    policy, targets = preview.read(_read(args.policy), source)
    found = preview.preview(policy, source, _streets(args, policy), today)
    made = plan(policy, source)
    follows = _after(args, made, lang)
    found |= follows.document
    found["warnings"] += [one["en"] for one in follows.warnings]
    for stream in found["streams"]:
        target = targets.get(stream["id"])
        stream["target"] = target and {"node": target.node, "error_95": target.error_95, "line": target.line}
    if args.json:
        print(json.dumps(found))
    else:
        lines = follows.lines(preview.warnings(policy, made, today), lang)
        print("\n".join(policy_sheet.sheet(policy, found, lines, lang)))
    return 0


def _streets(args: argparse.Namespace, policy: Policy) -> list[Street]:
    from murmure_privacy import recording, street
    from murmure_privacy.errors import ConfigError

    if args.readings is None:
        for option in ("site", "metric"):
            if getattr(args, option) is not None:
                raise ConfigError("policy preview", f"--{option}", "without --readings", "name the recording too")
        return street.described()
    streams = [stream for stream in policy.streams if stream.quantity.kind != "count"]
    if not streams:
        raise ConfigError(str(args.policy), "stream", "none measures levels or air", "leave --readings out")
    if args.metric is not None:
        # A metric of another name can only be one more way to say a level.
        named = [stream for stream in streams if stream.quantity.name == args.metric]
        streams = named or [stream for stream in streams if stream.quantity.kind == "level"] or streams
    found, nothing = [], None
    for stream in streams:
        try:
            rows = recording.read(args.readings, stream, args.site, args.metric)
        except recording.NoMetric as error:  # a recording of noise has nothing for the air, and need not
            nothing = error
        else:
            found.append(street.recorded(rows, stream, policy.timezone))
    if nothing is not None and not found:
        raise nothing
    return found
