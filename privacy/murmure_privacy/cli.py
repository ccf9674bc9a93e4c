"""The steward's commands that need nothing but the kernel: `policy check` and `policy preview`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Context, Decimal
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from murmure_privacy.plan import Plan
    from murmure_privacy.policy import Policy
    from murmure_privacy.street import Street

_WAYS = {"looser": "a loosening", "tighter": "a tightening", "same": "no change for residents"}
_SPANS = {"1d": "one day", "1w": "a week", "30d": "30 days", "1y": "a year"}


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
    check.set_defaults(handler=_check)
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
    preview.set_defaults(handler=_preview)
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


def _read(file: Path) -> bytes:
    from murmure_privacy.errors import ConfigError

    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), "file", error.strerror or str(error), "give a readable policy") from error


def _after(args: argparse.Namespace, made: Plan) -> tuple[dict[str, Any], list[str], list[str]]:
    """Returns what follows where this policy comes after the one in force, what it changes and what is withheld from
    now on: for programs; what it changes and takes in words; and warnings."""
    from murmure_privacy import change, policy, policy_words
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.plan import plan
    from murmure_privacy.window import utc

    if args.after is None:
        early = made.policy.valid_from > datetime.now(UTC).date()
        advice = "where a policy is in force: --after OLDER says what this one loosens, and withholds before it begins"
        return {"change": None, "withheld": []}, [], [advice] * early
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
            "why": hold.why,
            "from": utc(hold.from_s),
            "until": None if hold.until_s is None else utc(hold.until_s),
        }
        for hold in holds
    ]
    found_change = policy_words.change(older, made)
    head = f"after policy {was.version} it is {_WAYS[found_change.direction]}:"
    told = [head, *(f"  {line}" for line in policy_words.told(found_change, "en"))]
    warnings = [change.warning(hold, older.calendar) for hold in holds]
    return {"change": found_change.document(), "withheld": found}, told, warnings


def _check(args: argparse.Namespace) -> int:
    from murmure_privacy import policy, preview
    from murmure_privacy.decide import FLOOR
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.plan import plan
    from murmure_privacy.policy_words import BELOW_THE_FLOOR
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
    follows, told, withholding = _after(args, made)
    site = preview.site_price(made)
    too_much = site["rho_micro"] > FLOOR.rho_micro
    warnings = [*preview.dates(parsed, datetime.now(UTC).date()), *[BELOW_THE_FLOOR["en"]] * too_much, *withholding]
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
    if args.json:
        print(
            json.dumps(
                {
                    "policy": f"sha256:{parsed.hash.hex()}",
                    "streams": streams,
                    "site": site,
                    "largest_message": largest,
                    **follows,
                    "warnings": warnings,
                }
            )
        )
        return 0
    print(f"{source}: complete. Policy {parsed.version} of {parsed.site}, sha256:{parsed.hash.hex()[:16]}…")
    for stream in streams:
        print(f"  {stream['id']}: epsilon {stream['epsilon']:g} (delta {stream['delta']:g}) for one unit of privacy")
        for node in stream["nodes"]:
            what = f"{node['node']:>7}  {node['indicator']:<9}"
            print(f"    {what}  sigma {node['sigma']:>14,g} {node['unit']:<5}  {node['rho_micro']} micro-rho")
    print(f"  all streams together: epsilon {site['epsilon']:g}; largest message {largest} of {MESSAGE_LIMIT} bytes")
    for line in (*told, *(f"warning: {warning}" for warning in warnings)):
        print(f"  {line}")
    return 0


def _preview(args: argparse.Namespace) -> int:
    from murmure_privacy import preview
    from murmure_privacy.plan import plan

    source = str(args.policy)
    policy, targets = preview.read(_read(args.policy), source)
    found = preview.preview(policy, source, _streets(args, policy), datetime.now(UTC).date())
    follows, told, withholding = _after(args, plan(policy, source))
    found |= follows
    found["warnings"] += withholding
    for stream in found["streams"]:
        target = targets.get(stream["id"])
        stream["target"] = target and {"node": target.node, "error_95": target.error_95, "line": target.line}
    if args.json:
        print(json.dumps(found))
    else:
        print("\n".join(_sheet(policy, found, told)))
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


def _sheet(policy: Policy, found: Mapping[str, Any], change: Iterable[str]) -> Iterator[str]:
    """Yields the lines of the preview that a steward reads; `change`: those of what it changes."""
    yield f"Policy {policy.version} of {policy.site}, {policy.valid_from} to {policy.valid_until}"
    for stream, planned in zip(found["streams"], policy.streams, strict=True):
        kind, size = planned.protects
        what = f"{size} counted crossing{'s' * (size > 1)}" if kind == "crossings" else f"any {size} seconds"
        if planned.up_to is not None:
            what += f" during which no reading is above {planned.up_to / planned.quantity.per_unit:g} "
            what += planned.quantity.unit
        yield ""
        yield f"{stream['id']}: epsilon {stream['epsilon']:g}, delta {stream['delta']:g}, for {what}"
        if stream["target"]:
            wanted = stream["target"]
            yield f"  for ± {_short(wanted['error_95'])} at {wanted['node']}, write: {wanted['line']}"
        yield from _errors(stream)
        for street in stream["streets"]:
            yield from _on(stream, street, planned.quantity.unit)
        yield from _habits(stream, planned.delta)
        for fit in stream["up_to"]:
            yield from _fit(fit, size)
        if stream["cap"]:
            cap = stream["cap"]
            yield f"  cap: {cap['units_per_day']} a day may cost epsilon {cap['epsilon']:g} over {_SPANS[cap['span']]}:"
            yield f"    enough for {cap['days']} days of it"
    site = found["site"]
    yield ""
    yield f"All streams together: epsilon {site['epsilon']:g}, delta {site['delta']:g}"
    yield from change
    yield from (f"warning: {warning}" for warning in found["warnings"])


def _errors(stream: Mapping[str, Any]) -> Iterator[str]:
    rows = [("node", "figure", "margin ±", "unit", "sigma", "sensor ±", "micro-rho", "")]
    for row in stream["nodes"]:
        if row["at"] is None:
            error, sigma, sensor = (_short(row[key]) for key in ("error_95", "sigma", "sensor_error"))
            cost = str(row["rho_micro"] or "-")
            said = "not shown" if row["publishable"] is False else ""
            rows.append((row["node"], row["indicator"], error, row["unit"], sigma, sensor, cost, said))
    yield from _table(rows, left=(0, 1, 3, 7))
    yield "    margin: 19 figures out of 20 are within it, on days without a gap, from all nodes together"
    if stream["sensor"]:
        yield f"    sensor: {stream['sensor']['source']}"


def _on(stream: Mapping[str, Any], street: Mapping[str, Any], unit: str) -> Iterator[str]:
    """Yields what a street is and the margins of what depends on the street: a line an indicator, a column a node."""
    from murmure_privacy.levels import EXCEEDED
    from murmure_privacy.stream import HISTOGRAM_STEP_TENTHS

    usual = f"LAeq {street['laeq_db']:.1f} dB" if "laeq_db" in street else f"mean {_short(street['mean'])} {unit}"
    yield f"  {street['at']}: {usual}; {street['says']}"
    if "laeq_db" not in street:
        return
    told: list[str] = []
    for rows, title in ((stream["nodes"], "margin ± dB"), (stream["monthly"], "mean of 30 days")):
        cells = {(row["indicator"], row["node"]): row for row in rows if row["at"] == street["at"]}
        nodes = list(dict.fromkeys(node for _, node in cells))
        lines = [(title, *nodes)]
        for name in dict.fromkeys(name for name, _ in cells):
            lines.append((name, *(_margin(cells.get((name, node))) for node in nodes)))
            told += [name, *lines[-1][1:]]
        yield from _table(lines, left=(0,))
    yield "    no: above 3 dB, on most nodes of the kind; it is then not shown as a number"
    if not EXCEEDED.keys().isdisjoint(told):
        half = HISTOGRAM_STEP_TENTHS / 20
        yield f"    l10, l50, l90: told as the middle of a bin; ± {half:g} dB is half its width, whatever the epsilon"
    if any(cell.startswith(("≤", "≥")) for cell in told):
        yield "    ≤, ≥: at most, at least so many dB: the first and the last bin hold what is beyond the bounds too"


def _margin(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    for key, sign in (("at_most_db", "≤"), ("at_least_db", "≥")):
        if row.get(key) is not None:
            return f"{sign} {row[key]:g}"
    return "no" if row["publishable"] is False else _short(row["error_95"])


def _habits(stream: Mapping[str, Any], delta: Decimal) -> Iterator[str]:
    from murmure_privacy import accountant

    rungs = stream["ladder"]
    rows = [("units a day", *(_SPANS[span] for span in dict.fromkeys(rung["span"] for rung in rungs)))]
    in_order = sorted(rungs, key=lambda rung: int(rung["units"]))
    for units, group in groupby(in_order, key=lambda rung: int(rung["units"])):
        rows.append((str(units), *(_rounded_up(rung["epsilon"]) + " *"[rung["odds"] is None] for rung in group)))
    yield "  what habits cost, as epsilon (*: nothing worth the name is promised):"
    yield from _table(rows)
    right = accountant.right_guesses(Decimal(str(rungs[0]["epsilon"])), delta)
    yield (
        "    one unit on one day: who held it for as likely as not before is right at most "
        f"{right:.0%} of the time after"
    )


def _fit(fit: Mapping[str, Any], seconds: int) -> Iterator[str]:
    what = f"{fit['indicator']} ({fit['node']})"
    unit, key = fit["unit"], next(iter(fit["proposed"]))
    yield f"  {fit['at']}: levels for {key}, with {fit['share_of_budget']:.0%} of the budget for {what}:"
    rows = [(key, "events left out", "readings above", f"margin ± {unit}")]
    rows += [(str(step[key]), _events(step, fit), _percent(step["louder"]), _margin(step)) for step in fit["steps"]]
    yield from _table(rows)
    yield (
        f"    an event is {fit['unit_readings']} readings in a row: {seconds} seconds and what the sensor remembers of "
        "them; one reading above the level leaves it out"
    )
    if not fit["events_exact"]:
        yield "    up to: at worst, for a described street does not say what follows on what; --readings counts events"
    clamped, suffix, figure = fit["clamped"], key.removeprefix("up_to"), "LAeq" if unit == "dB" else "mean"
    high, bias = clamped[f"high{suffix}"], clamped[f"bias{suffix}"]
    yield (
        f"    without it, readings above {high} {unit} count as {high}: {figure} {bias:+.2f} {unit}, margin "
        f"{_margin(clamped)}"
    )
    if fit["of_policy"]:
        yield f"    the policy has {_said(fit['of_policy'], fit)}"
    yield f"    proposed, the lowest that leaves out at most 1 % of events: {_said(fit['proposed'], fit)}"
    highest = fit["highest_publishable"]
    if highest and not fit["proposed"]["publishable"]:
        yield f"    the highest with which it is shown: {_said(highest, fit)}"


def _events(step: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    return ("" if fit["events_exact"] or not step["events"] else "up to ") + _percent(step["events"])


def _percent(share: float) -> str:
    """Returns a share to a hundredth of a percent; less than that is not said to be none."""
    return "< 0.01%" if 0 < share < 0.0001 else f"{share:.2%}"


def _said(step: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    key, what = next(iter(step)), f"{fit['indicator']} ({fit['node']})"
    shown = "not shown" if step["publishable"] is False else f"± {_short(step['error_95'])} {fit['unit']}"
    return f"{key} = {step[key]}: {what} {shown}; {_events(step, fit)} of events left out"


def _rounded_up(epsilon: float) -> str:
    """Returns three digits of a price, never below it."""
    three = Decimal(str(epsilon)).normalize(Context(prec=3, rounding=ROUND_CEILING))
    return f"{three:,f}"


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _table(rows: Sequence[Sequence[str]], left: Iterable[int] = ()) -> Iterator[str]:
    """Yields the rows in aligned columns, to the right but for those named."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = set(left)
    for row in rows:
        cells = (
            cell.ljust(width) if column in aligned else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"    {'  '.join(cells)}".rstrip()
