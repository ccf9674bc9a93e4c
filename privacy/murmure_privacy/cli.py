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
    from murmure_privacy.policy import Policy
    from murmure_privacy.street import Street

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
        description="Checks a policy file: every key, the noise of every node, the largest message.",
        epilog="example: murmure policy check policy.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.set_defaults(handler=_check)
    preview = commands.add_parser(
        "preview",
        help="show how exact each figure will be, and what habits cost, before anybody signs",
        description=(
            "Shows the error of every final figure, the sensor's own error beside it, what 1, 2, 4 and 10 units of\n"
            "privacy cost over a day, a week, 30 days and a year, which noise indicators are exact enough to be\n"
            "shown, and a level for up_to_db.\n\n"
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
    preview.add_argument("--readings", type=Path, metavar="FILE", help="a recording of levels (CSV, also gzip)")
    preview.add_argument("--site", metavar="SITE", help="the site in the recording, if it has several")
    preview.add_argument("--metric", metavar="METRIC", help="the metric in the recording; default: the finest level")
    preview.set_defaults(handler=_preview)
    for command in (check, preview):
        command.add_argument("policy", type=Path, metavar="POLICY", help="the policy as TOML")
        command.add_argument("--json", action="store_true", help="one JSON document")


def _read(file: Path) -> bytes:
    from murmure_privacy.errors import ConfigError

    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), "file", error.strerror or str(error), "give a readable policy") from error


def _check(args: argparse.Namespace) -> int:
    from murmure_privacy import policy, preview
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
    warnings = preview.dates(parsed, datetime.now(UTC).date())
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
    site = preview.site_price(made)
    if args.json:
        print(
            json.dumps(
                {
                    "policy": f"sha256:{parsed.hash.hex()}",
                    "streams": streams,
                    "site": site,
                    "largest_message": largest,
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
    for warning in warnings:
        print(f"  warning: {warning}")
    return 0


def _preview(args: argparse.Namespace) -> int:
    from murmure_privacy import preview

    source = str(args.policy)
    policy, targets = preview.read(_read(args.policy), source)
    found = preview.preview(policy, source, _streets(args, policy), datetime.now(UTC).date())
    for stream in found["streams"]:
        target = targets.get(stream["id"])
        stream["target"] = target and {"node": target.node, "error_95": target.error_95, "line": target.line}
    if args.json:
        print(json.dumps(found))
    else:
        print("\n".join(_sheet(policy, found)))
    return 0


def _streets(args: argparse.Namespace, policy: Policy) -> list[Street]:
    from murmure_privacy import recording, street
    from murmure_privacy.errors import ConfigError

    if args.readings is None:
        for option in ("site", "metric"):
            if getattr(args, option) is not None:
                raise ConfigError("policy preview", f"--{option}", "without --readings", "name the recording too")
        return street.described()
    stream = next((stream for stream in policy.streams if stream.quantity.kind == "level"), None)
    if stream is None:
        raise ConfigError(str(args.policy), "stream", "none measures levels", "leave --readings out")
    return [street.recorded(recording.read(args.readings, stream, args.site, args.metric), stream, policy.timezone)]


def _sheet(policy: Policy, found: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines of the preview that a steward reads."""
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
            yield from _on(stream, street)
        yield from _habits(stream, planned.delta)
        for fit in stream["up_to"]:
            yield from _fit(fit)
        if stream["cap"]:
            cap = stream["cap"]
            yield f"  cap: {cap['units_per_day']} a day may cost epsilon {cap['epsilon']:g} over {_SPANS[cap['span']]}:"
            yield f"    enough for {cap['days']} days of it"
    site = found["site"]
    yield ""
    yield f"All streams together: epsilon {site['epsilon']:g}, delta {site['delta']:g}"
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


def _on(stream: Mapping[str, Any], street: Mapping[str, Any]) -> Iterator[str]:
    """Yields the margins of what depends on the street: a line an indicator, a column a node."""
    yield f"  {street['at']}: LAeq {street['laeq_db']:.1f} dB; {street['says']}"
    for rows, title in ((stream["nodes"], "margin ± dB"), (stream["monthly"], "mean of 30 days")):
        cells = {(row["indicator"], row["node"]): row for row in rows if row["at"] == street["at"]}
        nodes = list(dict.fromkeys(node for _, node in cells))
        lines = [(title, *nodes)]
        for name in dict.fromkeys(name for name, _ in cells):
            lines.append((name, *(_margin(cells.get((name, node))) for node in nodes)))
        yield from _table(lines, left=(0,))
    yield "    no: above 3 dB, on most nodes of the kind; it is then not shown as a number"


def _margin(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return _short(row["error_95"]) if row["publishable"] else "no"


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


def _fit(fit: Mapping[str, Any]) -> Iterator[str]:
    what = f"{fit['indicator']} ({fit['node']})"
    yield f"  {fit['at']}: levels for up_to_db, with {fit['share_of_budget']:.0%} of the budget for {what}:"
    rows = [("up_to_db", "of the time louder", "margin ± dB")]
    rows += [(str(step["up_to_db"]), f"{step['louder']:.2%}", _margin(step)) for step in fit["steps"]]
    yield from _table(rows)
    clamped = fit["clamped"]
    yield (
        f"    without it, levels above {clamped['high_db']} dB count as {clamped['high_db']}: LAeq "
        f"{clamped['bias_db']:+.2f} dB, margin {_margin(clamped)}"
    )
    if fit["of_policy"]:
        yield f"    the policy has {_said(fit['of_policy'], what)}"
    yield f"    proposed, the lowest that at most 1 % of the time exceeds: {_said(fit['proposed'], what)}"
    highest = fit["highest_publishable"]
    if highest and not fit["proposed"]["publishable"]:
        yield f"    the highest with which it is shown: {_said(highest, what)}"


def _said(step: Mapping[str, Any], what: str) -> str:
    shown = f"± {_short(step['error_95'])} dB" if step["publishable"] else "not shown"
    return f"up_to_db = {step['up_to_db']}: {what} {shown}; {step['louder']:.2%} of the time is louder, not protected"


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
