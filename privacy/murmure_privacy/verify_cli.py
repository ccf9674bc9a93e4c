"""`murmure verify`: anyone's check of what a town has published."""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from murmure_privacy.speaking import speaking

if TYPE_CHECKING:
    from murmure_privacy.findings import Report
    from murmure_privacy.log import Checkpoint
    from murmure_privacy.publication import Publication
    from murmure_privacy.sources import Site
    from murmure_privacy.verify import Match

# What is read unless days or all are asked for, in bytes: of messages, a week of 50 gateways with three streams each;
# and, as it comes over the line, up to where the tables of the months are read as well.
AT_ONCE, LINE = 12_000_000, 12_000_000
_LANGUAGES = ("fr", "en")
_CODE = re.compile(r"[0-9A-Za-z]{5}[ -]?[0-9A-Za-z]{5}")

Say = Callable[..., str]


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `verify`."""
    verify = groups.add_parser(
        "verify",
        help="check what a town has published: signatures, log, policies, figures",
        description=(
            "Checks a published site, or an archive as files: the log that the centre has signed, the policies and\n"
            "their notice, the account of every day, and message by message that each figure is within its policy,\n"
            "has the noise that it claims, and stands in the tables as its gateway signed it. With the short code of\n"
            "a figure instead of SOURCE, shows what was signed for it.\n\n"
            "Believes only the key of the centre: compare it once with one that you know, and give it with --key.\n"
            "With --remember FILE, a later run sees whether the log has shrunk or forked; with --seen SIZE:ROOT,\n"
            "whether it still begins as somebody once noted it down from the page Vie privée."
        ),
        epilog=(
            "example: murmure verify https://capteurs.example.org\n"
            "example: murmure verify site --all --remember journal.json\n"
            "example: murmure verify 2EPYD-47JPC --site https://capteurs.example.org"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("source", metavar="SOURCE", help="folder or address of a site, export of an archive, or a code")
    verify.add_argument("--site", metavar="SITE", help="where the figure with the code was published")
    verify.add_argument("--key", metavar="HEX", help="the centre's public key, 64 hexadecimal digits")
    verify.add_argument(
        "--remember", type=Path, metavar="FILE", help="compare the log with this file, and keep it there"
    )
    verify.add_argument(
        "--seen",
        action="append",
        default=[],
        metavar="SIZE:ROOT",
        help="a checkpoint that was noted down, here or elsewhere: number of entries, colon, root in base64",
    )
    verify.add_argument(
        "--days", type=int, metavar="N", help="read the messages of the newest N days one by one, and the tables"
    )
    verify.add_argument("--all", action="store_true", help="read the messages of all days one by one")
    verify.add_argument("--lang", choices=_LANGUAGES, default="fr", help="language of the answer (default: fr)")
    verify.add_argument("--json", action="store_true", help="one JSON document")
    verify.set_defaults(handler=speaking(_verify))


def _verify(args: argparse.Namespace) -> int:
    from murmure_privacy import codes
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.findings import plain
    from murmure_privacy.verify_words import FINDINGS, SENTENCES

    place = _LANGUAGES.index(args.lang)

    def say(sentence: str, /, **values: object) -> str:
        told = {name: plain(value) if isinstance(value, str) else value for name, value in values.items()}
        return (SENTENCES.get(sentence) or FINDINGS[sentence])[place].format(**told)

    code = None
    if not Path(args.source).exists() and _CODE.fullmatch(args.source):
        try:
            code = codes.read(args.source)[0]
        except ValueError as error:
            raise ConfigError("verify", "SOURCE", f"{error}", "look at its ten letters and figures again") from error
    if code is not None and args.site is None:
        raise ConfigError("verify", "--site", "the code does not say where it was published", "name its site")
    return _everything(args, say) if code is None else _one(args, code, say)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A check of a source. `matches`: what a code leads to, None without one; `moved`: the site was published anew
    during this check, and during the one before, and what was found may be the difference of two builds."""

    published: Publication
    site: Site | None
    report: Report
    matches: list[Match] | None
    moved: bool = False

    @property
    def right(self) -> bool:
        """Returns whether all of it is as it was promised."""
        there = self.matches is None or (bool(self.matches) and not any(match.differs for match in self.matches))
        return there and not self.report.findings


def _checked(
    args: argparse.Namespace, source: str, check: Callable[[Publication], tuple[Report, list[Match] | None]]
) -> _Checked:
    """Returns a check of a source; another one, from the start, if the site was published anew meanwhile and something
    is not right."""
    from murmure_privacy import sources
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.publication import FORMAT

    site = None if sources.is_archive(source) else sources.Site(source, time.monotonic)
    for _ in range(2):
        published = sources.archive(Path(source)) if site is None else site.published(FORMAT)
        if args.key is not None and _key(args.key) != published.centre:
            problem = f"the site publishes another key, {published.centre.hex()}"
            mend = "ask the town which one is right, and trust nothing until then"
            raise ConfigError("verify", "--key", problem, mend)
        found = _Checked(published, site, *check(published))
        if found.right or site is None or not site.moved():
            return found
    return replace(found, moved=True)


def _key(text: str) -> bytes:
    from murmure_privacy.errors import ConfigError

    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError("verify", "--key", "not a public key", "give 64 hexadecimal digits")
    return key


def _everything(args: argparse.Namespace, say: Say) -> int:
    from murmure_privacy.publication import days_of
    from murmure_privacy.verify import verify

    def check(published: Publication) -> tuple[Report, None]:
        days = None if args.all or args.days is None else days_of(published)[: max(0, args.days)]
        known = [*_remembered(args.remember, published.centre), *map(_seen, args.seen)]
        most, line = (None, None) if args.all or args.days is not None else (AT_ONCE, LINE)
        return verify(published, days, known, _progress, most, line), None

    found = _checked(args, args.source, check)
    if args.remember is not None and found.right:
        _remember(args.remember, found.published.centre, found.report.checkpoint)
    if args.json:
        octets = found.site.octets if found.site is not None else None
        print(json.dumps({**_told(found), "days": list(map(_date, found.report.days)), "octets": octets}))
    elif found.moved:
        print(say("moved"))
    else:
        print("\n".join(_lines(args, found, say)))
        if args.remember is not None and found.right:
            print(say("remembered", file=args.remember))
    return int(not found.right)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} / {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _date(day: int) -> str:
    from murmure_privacy.publication import date_of

    return date_of(day)


def _told(found: _Checked) -> dict[str, Any]:
    report = found.report
    return {
        "conforming": found.right,
        "moved": found.moved,
        "log": {"size": report.checkpoint.size, "root": report.checkpoint.root.hex()},
        "policies": report.policies,
        "annotations": report.annotations,
        "accounts": report.accounts,
        "messages": report.messages,
        "nodes": report.nodes,
        "rows": report.rows,
        "computed": report.computed,
        "beside": report.beside,
        "sums": report.sums,
        "columnar": report.columnar,
        "left_tables": report.left_tables,
        "left_columnar": report.left_columnar,
        "untold": report.untold,
        "elsewhere": report.elsewhere,
        "unpinned": report.unpinned,
        "alone": report.alone,
        "findings": [{"kind": one.kind, "where": one.where} for one in report.told if not found.moved],
        "left_out": 0 if found.moved else report.left_out,
    }


def _lines(args: argparse.Namespace, found: _Checked, say: Say) -> Iterator[str]:
    published, report = found.published, found.report
    signed = say("pinned") if args.key else say("unpinned", key=published.centre.hex()[:16])
    from murmure_privacy.publication import days_of

    yield say("log", size=report.checkpoint.size, signed=signed)
    yield say("checked", **_told(found))
    if report.days:
        every, days = len(days_of(published)), sorted(map(_date, report.days))
        more = "" if len(days) == every else say("more")
        yield say("days", days=len(days), all=every, first=days[0], last=days[-1], more=more).rstrip()
    if published.rows is None:
        yield say("no_rows")
    else:
        yield say("beside", **_told(found))
        if report.left_tables:
            yield say("left_tables", months=", ".join(report.left_tables))
        elif report.left_columnar:
            yield say("left_columnar", months=", ".join(report.left_columnar))
        else:
            yield say("no_columnar") if report.columnar is None else say("columnar", columnar=report.columnar)
        yield say("unread")
    if report.unpinned:
        yield say("unjudged", count=len(report.unpinned))
    if report.alone:
        yield say("alone", policies=", ".join(report.alone))
    if report.untold:
        yield say("untold", sites=", ".join(report.untold))
    if report.elsewhere:
        yield say("elsewhere", sites=", ".join(report.elsewhere), timezones=", ".join(report.by_days))
    yield from _verdict(report, say, args.lang)


def _verdict(report: Report, say: Say, lang: str) -> Iterator[str]:
    from murmure_privacy.french import french

    if not report.findings:
        yield say("right")
        return
    count = len(report.findings) + report.left_out
    yield say("wrong_one" if count == 1 else "wrong", count=count)
    for one in report.told:
        # Of a checkpoint it is why it is none, said in English where it was found.
        where = french(one.where) if (lang, one.kind) == ("fr", "checkpoint") else None
        yield f"- {say(one.kind)} ({where or one.where})"
    if report.left_out:
        yield say("left_out", count=report.left_out)


def _seen(text: str) -> Checkpoint:
    """Returns a checkpoint as somebody noted it down."""
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.log import Checkpoint

    size, _, root = text.partition(":")
    try:
        known = Checkpoint(int(size), base64.b64decode(root, validate=True))
    except ValueError:
        known = Checkpoint(-1, b"")
    if known.size < 0 or len(known.root) != 32:
        mend = "write the number of entries, a colon, and the root as it stands on the page, 44 signs"
        raise ConfigError("verify", "--seen", f"{text[:80]!a} is no checkpoint", mend)
    return known


def _remembered(file: Path | None, centre: bytes) -> list[Checkpoint]:
    """Returns the checkpoint that a file remembers, nothing where there is no file yet."""
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.log import Checkpoint

    if file is None or not file.exists():
        return []
    try:
        if not file.is_file():
            raise OSError("no file")
        told = json.loads(file.read_text("utf-8"))
        key, known = bytes.fromhex(told["centre"]), Checkpoint(int(told["size"]), bytes.fromhex(told["root"]))
        if known.size < 0:
            raise ValueError(known.size)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        problem = "it is not what an earlier run has written"
        raise ConfigError(str(file), "--remember", problem, "name another file") from error
    if key != centre:
        problem = "it remembers the log of another key"
        raise ConfigError(str(file), "--remember", problem, "ask the town why its key changed, or name another file")
    return [known]


def _remember(file: Path, centre: bytes, here: Checkpoint) -> None:
    from murmure_privacy.errors import MurmureError

    told = {"centre": centre.hex(), "size": here.size, "root": here.root.hex()}
    try:
        file.write_text(json.dumps(told) + "\n", "utf-8")
    except OSError as error:
        raise MurmureError(f"{file}: {error.strerror or error}; name a file that can be written") from error


def _one(args: argparse.Namespace, code: str, say: Say) -> int:
    from murmure_privacy import codes
    from murmure_privacy.verify import find

    found = _checked(args, args.site, lambda published: find(published, code, _progress))
    matches = found.matches or []
    if args.json:
        shown = [] if found.moved else [_shown(match) for match in matches]
        print(json.dumps({**_told(found), "code": code, "figures": shown}))
        return int(not found.right)
    if found.moved:
        print(say("moved"))
        return 1
    if not matches:
        print(say("no_match", day=_date(codes.read(code)[1])))
    for match in matches:
        print("\n".join(_figure(match, code, found.published, say, args.lang)))
    if found.report.findings:
        print("\n".join(_verdict(found.report, say, args.lang)))
    return int(not found.right)


def _shown(match: Match) -> dict[str, Any]:
    from murmure_privacy.release import Withheld
    from murmure_privacy.verify_tables import figures
    from murmure_privacy.window import utc

    node = match.outcome.node
    value, sigma, rho = figures(match.outcome)[match.indicator]
    return {
        "gateway": match.gateway,
        "seq": match.seq,
        "stream": node.stream,
        "node": node.level,
        "start": utc(node.start_s),
        "end": utc(node.end_s),
        "indicator": match.indicator,
        "value": value,
        "sigma": sigma,
        "rho_micro": rho,
        "reason": match.outcome.reason if isinstance(match.outcome, Withheld) else "",
        "policy": f"sha256:{node.policy.hex()}",
        "row": None if match.row is None else dict(match.row),
        "differs": match.differs,
        "computed": match.computed,
        "faulty": [
            {"number": mark.number, "start": utc(mark.from_s), "end": utc(mark.to_s), "cause": mark.cause}
            for mark in match.faulty
        ],
    }


def _figure(match: Match, code: str, published: Publication, say: Say, lang: str) -> Iterator[str]:
    from murmure_privacy.window import utc

    told = {name: value or say("none") for name, value in _shown(match).items() if isinstance(value, str | int)}
    yield say("match", code=code, **told)
    if told["reason"] != say("none"):
        yield say("withheld", **told)
    else:
        yield say("signed", rho=told["rho_micro"], **told)
    if match.row is not None:
        value, estimate = (match.row.get(name) or say("none") for name in ("value", "estimate"))
        yield say("row", value=value, estimate=estimate)
    if match.differs is not None:
        yield say("differs", what=say(match.differs))
    else:
        yield say("no_rows") if published.rows is None else say("same")
        if match.computed:
            yield say("computed")
    for mark in match.faulty:
        # The stewards' own words: French always, English where they wrote both.
        sentence = mark.sentence_en if lang == "en" and mark.sentence_en else mark.sentence
        start, end = utc(mark.from_s), utc(mark.to_s)
        yield say("faulty", start=start, end=end, cause=say(f"cause_{mark.cause}"), sentence=sentence)
