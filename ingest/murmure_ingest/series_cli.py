"""The command `murmure ingest series`: what the archive has of one series, straight from its index."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from murmure_ingest.cli import _json, _leaf

if TYPE_CHECKING:
    from murmure_ingest.archive import Archive


def register(ingest: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the group `ingest`."""
    series = _leaf(
        ingest,
        "series",
        _series,
        "print what was released of one series, from the index: fast, and proved by 'ingest verify' alone",
        "murmure ingest series plaza/footfall --archive archive.db --node 1h --from 2026-11-01T00:00:00Z",
    )
    series.add_argument("stream", metavar="STREAM", help="its id")
    series.add_argument("--archive", required=True, metavar="FILE", help="the archive")
    series.add_argument("--node", default="1h", metavar="LEVEL", help="15min, 1h, 6h, 1d … (1h)")
    series.add_argument("--from", dest="from_", metavar="T", help="nodes that begin from here on (UTC)")
    series.add_argument("--to", metavar="T", help="nodes that begin before this (UTC)")
    _json(series, "one JSON object per node, one per line, instead of CSV")


def _series(args: argparse.Namespace) -> int:
    import csv
    import json
    import sys
    from contextlib import closing
    from pathlib import Path

    from murmure_privacy.errors import ConfigError
    from murmure_privacy.window import LEVELS

    from murmure_ingest.archive import Archive
    from murmure_ingest.archive_cli import instant

    from_s, to_s = (
        default if text is None else instant("ingest series", key, text)
        for key, text, default in (("--from", args.from_, 0), ("--to", args.to, 1 << 40))
    )
    if args.node not in LEVELS:
        raise ConfigError("ingest series", "--node", f"{args.node!r} is no level", f"write one of {', '.join(LEVELS)}")
    with closing(Archive.open(Path(args.archive), read_only=True)) as archive:
        known = {info.stream: info.quantity for info in archive.streams()}
        if args.stream not in known:
            mend = "see 'murmure gateway list' and the policy of its site"
            raise ConfigError(args.archive, args.stream, "the archive has no such stream", mend)
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if not args.json:
            writer.writerow(_HEADER)
        for line in printed(archive, args.stream, known[args.stream], args.node, from_s, to_s):
            if args.json:
                print(json.dumps(line))
            else:
                writer.writerows(_rows(line))
    return 0


_HEADER = (
    "start_utc",
    "end_utc",
    "covered_from_utc",
    "present",
    "indicator",
    "value",
    "sigma",
    "unit",
    "policy",
    "reason",
)


def _rows(line: dict[str, Any]) -> Iterator[list[Any]]:
    from murmure_privacy.published import number

    head = [line["start"], line["end"], line["covered_from"], line["present"]]
    if not line["noise"]:
        yield [*head, "", "", "", "", line["policy"], line["reason"]]
    for noise in line["noise"]:
        value = line["values"][noise["of"]]
        text = ";".join(map(number, value)) if isinstance(value, list) else number(value)
        yield [*head, noise["of"], text, number(noise["sigma"]), noise["unit"], line["policy"], ""]


def printed(
    archive: Archive, stream: str, quantity: str, level: str, from_s: int, to_s: int
) -> Iterator[dict[str, Any]]:
    """Yields the nodes of a level of a stream that begin in [from_s, to_s), in the units of contract 5."""
    from functools import cache
    from itertools import islice

    from murmure_privacy.published import divisor, printed_name, printed_values, unit
    from murmure_privacy.release import Node, Noised
    from murmure_privacy.window import utc

    scale_of = cache(archive.scale)
    for start_s, end_s, covered_from_s, present, reason, row, integers in archive.nodes(stream, level, from_s, to_s):
        scale, held = scale_of(row), iter(integers)
        spans = start_s, end_s, covered_from_s
        node = Node(stream, quantity, level, *spans, present, scale.cadence_ms, scale.bounds, scale.policy)
        values: dict[str, Any] = {}
        noise = []
        for indicator, width, sigma_milli, rho_micro in scale.parts:
            noised = Noised(indicator, tuple(islice(held, width)), sigma_milli, rho_micro)
            name, figures = printed_name(node, indicator), printed_values(node, noised)
            values[name] = figures if indicator == "histogram" else figures[0]
            sigma = round(sigma_milli / 1000 / divisor(node, indicator), 9)
            noise.append({"of": name, "unit": unit(node, indicator), "sigma": sigma, "rho_micro": rho_micro})
        yield {
            **dict(zip(("start", "end", "covered_from"), map(utc, spans), strict=True)),
            "present": present,
            "values": values,
            "noise": noise,
            "reason": reason,
            "policy": f"sha256:{scale.policy.hex()}",
        }
