"""The steward's commands that need nothing but the kernel: `policy check`."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from murmure_privacy.plan import NodePlan, StreamPlan
    from murmure_privacy.release import Node


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the group `policy`; the centre mounts `sign` and `publish` on it through `groups.murmure_policy`."""
    group = groups.add_parser(
        "policy",
        help="the steward's work: check, sign and publish a policy",
        description="The steward's work: check, sign and publish a policy.",
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
    check.add_argument("policy", type=Path, metavar="POLICY", help="the policy as TOML")
    check.add_argument("--json", action="store_true", help="one JSON document")
    check.set_defaults(handler=_check)


def _check(args: argparse.Namespace) -> int:
    from murmure_privacy import accountant, policy
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.plan import plan
    from murmure_privacy.published import divisor, unit
    from murmure_privacy.wire import MESSAGE_LIMIT, largest_message

    source = str(args.policy)
    try:
        data = args.policy.read_bytes()
    except OSError as error:
        raise ConfigError(source, "file", error.strerror or str(error), "give a readable policy") from error
    parsed = policy.parse(data, source)
    made = plan(parsed, source)
    largest = largest_message(made)
    if largest > MESSAGE_LIMIT:
        raise ConfigError(
            source, "stream", f"the largest message has {largest} bytes of {MESSAGE_LIMIT}", "drop a node"
        )
    today = datetime.now(UTC).date()
    warnings = []
    if parsed.valid_until < today:
        warnings.append(f"valid_until {parsed.valid_until} is past: nothing would be published")
    if parsed.valid_from > today:
        warnings.append(f"valid_from {parsed.valid_from} is still to come")
    streams: list[dict[str, Any]] = [
        {
            "id": stream.stream.id,
            "epsilon": float(stream.stream.epsilon),
            "delta": float(stream.stream.delta),
            "rho_micro": stream.rho_micro,
            "nodes": [
                {
                    "node": node.level,
                    "indicator": indicator.indicator,
                    "sigma": _significant(
                        indicator.sigma_milli / 1000 / divisor(_ordinary(stream, node), indicator.indicator)
                    ),
                    "unit": unit(_ordinary(stream, node), indicator.indicator),
                    "rho_micro": indicator.rho_micro,
                }
                for node in stream.nodes
                for indicator in node.indicators
            ],
        }
        for stream in made.streams.values()
    ]
    total_micro = sum(stream.rho_micro for stream in made.streams.values())
    delta = max(stream.delta for stream in parsed.streams)
    site = {
        "rho_micro": total_micro,
        "epsilon": float(round(accountant.epsilon(Decimal(total_micro) / accountant.MICRO, delta), 4)),
        "delta": float(delta),
    }
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
            what = f"{node['node']:>5}  {node['indicator']:<9}"
            print(f"    {what}  sigma {node['sigma']:>14,g} {node['unit']:<5}  {node['rho_micro']} micro-rho")
    print(f"  all streams together: epsilon {site['epsilon']:g}; largest message {largest} of {MESSAGE_LIMIT} bytes")
    for warning in warnings:
        print(f"  warning: {warning}")
    return 0


def _ordinary(stream: StreamPlan, node: NodePlan) -> Node:
    """Returns a whole node of an ordinary day, for the units in which its figures are printed."""
    from murmure_privacy.release import Node
    from murmure_privacy.window import ORDINARY_QUARTERS, QUARTER_S

    policy = stream.stream
    end_s = QUARTER_S * ORDINARY_QUARTERS[node.level]
    return Node(
        stream=policy.id,
        quantity=policy.quantity.name,
        level=node.level,
        start_s=0,
        end_s=end_s,
        covered_from_s=0,
        present=20,
        cadence_ms=policy.cadence_ms,
        bounds=policy.bounds,
        policy=bytes(32),
    )


def _significant(value: float) -> float:
    return float(f"{value:.6g}")
