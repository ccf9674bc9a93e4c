"""The stewards' commands for a faulty period: annotation new|withdraw|sign|publish|list."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from murmure_privacy.annotation import CAUSES

from murmure_ingest.cli import _config, _group, _json, _leaf

if TYPE_CHECKING:
    from murmure_privacy.annotation import Note

    from murmure_ingest.archive import Archive

_NEW = "annotation"
_EXAMPLE = (
    "murmure annotation new --stream plaza/noise --from 2026-11-20T08:00Z --to 2026-11-20T10:00Z --cause works "
    '--sentence "Des travaux contre le mur ont couvert les autres bruits." --out travaux.cose'
)


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the group `annotation`."""
    commands = _group(groups, "annotation", "what stewards say of a faulty period: figures stay, and show it")
    new = _leaf(commands, "new", _new, "write that a period of a stream was faulty, for signing", _EXAMPLE)
    new.add_argument("--stream", required=True, metavar="ID", help="the stream, such as plaza/noise")
    new.add_argument(
        "--from", required=True, dest="first", metavar="TIME", help="first instant, such as 2026-11-20T09:00+01:00"
    )
    new.add_argument(
        "--to", required=True, dest="last", metavar="TIME", help="where it was over: a quarter-hour, and not to come"
    )
    new.add_argument("--cause", required=True, choices=CAUSES, help="what was wrong")
    withdraw = _leaf(
        commands,
        "withdraw",
        _withdraw,
        "write that an annotation was a mistake, for signing",
        "murmure annotation withdraw 3 --site plaza --sentence 'Le capteur en panne était celui de la gare.' "
        "--out retrait.cose",
    )
    withdraw.add_argument("withdraws", type=int, metavar="NUMBER", help="the number of the annotation")
    withdraw.add_argument("--site", required=True, metavar="SITE", help="its site")
    for made in (new, withdraw):
        made.add_argument("--sentence", required=True, metavar="TEXT", help="one sentence for residents, in French")
        made.add_argument("--sentence-en", default="", metavar="TEXT", help="the same in English (none)")
        made.add_argument("--out", required=True, metavar="FILE.cose", help="the file to sign")
        made.add_argument(
            "--number", type=int, metavar="N", help="its number on the site (the next one in the centre's archive)"
        )
        _config(made)
    sign = _leaf(
        commands,
        "sign",
        _sign,
        "add a steward's signature to an annotation",
        "murmure annotation sign travaux.cose --key steward.key",
    )
    sign.add_argument("annotation", metavar="FILE.cose", help="what 'annotation new' or 'withdraw' wrote")
    sign.add_argument("--key", required=True, metavar="KEYFILE", help="the steward's secret key")
    publish = _leaf(
        commands,
        "publish",
        _publish,
        "hand a signed annotation to the centre: every page shows it",
        "murmure annotation publish travaux.cose --config ingest.toml",
    )
    publish.add_argument("annotation", metavar="FILE.cose", help="the signed annotation")
    _config(publish)
    listing = _leaf(
        commands, "list", _list, "show what stewards annotated", "murmure annotation list --config ingest.toml --json"
    )
    listing.add_argument("--site", metavar="SITE", help="of one site only")
    _config(listing)
    _json(listing)


def _archive(args: argparse.Namespace, *, read_only: bool) -> Archive:
    from murmure_ingest.archive import Archive
    from murmure_ingest.config import load

    return Archive.open(load(Path(args.config)).archive, read_only=read_only)


def _new(args: argparse.Namespace) -> int:
    from murmure_privacy.annotation import Annotation
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.window import utc

    from_s, to_s, issued_s = _quarter("--from", args.first), _quarter("--to", args.last), _now_s()
    if from_s >= to_s:
        raise ConfigError(_NEW, "--to", f"{utc(to_s)} is not after --from, {utc(from_s)}", "give the end of the period")
    if to_s > issued_s:
        mend = "mark what is over, up to the last quarter-hour; the rest can be marked later"
        raise ConfigError(_NEW, "--to", f"{utc(to_s)} has not come yet", mend)
    site = args.stream.partition("/")[0]
    sentence, english = _sentences(args)

    def note(number: int) -> Note:
        return Annotation(site, number, issued_s, sentence, args.stream, from_s, to_s, args.cause, english)

    return _write(args, site, note)


def _withdraw(args: argparse.Namespace) -> int:
    from murmure_privacy.annotation import Withdrawal

    issued_s = _now_s()
    sentence, english = _sentences(args)

    def note(number: int) -> Note:
        return Withdrawal(args.site, number, issued_s, sentence, args.withdraws, english)

    return _write(args, args.site, note)


def _write(args: argparse.Namespace, site: str, numbered: Callable[[int], Note]) -> int:
    """Writes the note without a signature, under the number that is given or the next one in the archive."""
    from murmure_privacy import wire
    from murmure_privacy.errors import ConfigError, WireError

    from murmure_ingest.annotations import describe, objection, streams_of

    out = Path(args.out)
    if out.exists():
        raise ConfigError(args.out, "--out", "the file exists, perhaps with signatures", "name another one")
    if args.number is not None:
        note = numbered(args.number)
    else:
        archive = _archive(args, read_only=True)
        before = [stored.note for stored in archive.annotations(site)]
        note = numbered(len(before) + 1)
        wrong = objection(note, before, streams_of(archive, site))
        archive.close()
        if wrong is not None:
            raise ConfigError(_NEW, wrong.key, wrong.problem, wrong.mend)
    try:
        sealed = wire.seal_annotation(note, [])
    except WireError as error:
        raise ConfigError(_NEW, "options", error.detail, "see 'murmure annotation new --help'") from error
    out.write_bytes(sealed)
    print(describe(note))
    print(f"now let its stewards sign it: murmure annotation sign {args.out} --key …")
    return 0


def _quarter(option: str, text: str) -> int:
    """Returns an instant, seconds UTC. Raises ConfigError without a zone, or between two quarter-hours."""
    from datetime import datetime

    from murmure_privacy.errors import ConfigError
    from murmure_privacy.window import QUARTER_S, utc

    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(_NEW, option, f"{text!r} is no instant", "write 2026-11-20T08:00Z") from error
    if instant.tzinfo is None:
        mend = f"write {text}Z for UTC, or {text}+01:00 for winter and +02:00 for summer in France"
        raise ConfigError(_NEW, option, f"{text!r} does not say in which zone", mend)
    at_s = int(instant.timestamp())
    if at_s % QUARTER_S or instant.microsecond:
        before_s = at_s - at_s % QUARTER_S
        mend = f"write {utc(before_s)} or {utc(before_s + QUARTER_S)}: no figure is finer"
        raise ConfigError(_NEW, option, f"{text!r} is not a quarter-hour", mend)
    return at_s


def _sentences(args: argparse.Namespace) -> tuple[str, str]:
    """Returns the sentence in French and in English (or ""), fit to be signed. Raises ConfigError."""
    from murmure_privacy.errors import ConfigError
    from murmure_privacy.wire import SENTENCE_LIMIT

    french, english = args.sentence.strip(), args.sentence_en.strip()
    for option, text in (("--sentence", french), ("--sentence-en", english)):
        if len(text) > SENTENCE_LIMIT:
            problem = f"{len(text)} characters where {SENTENCE_LIMIT} are allowed"
            raise ConfigError(_NEW, option, problem, "say it in one short sentence")
        if not text.isprintable():
            mend = "type one line with ordinary spaces and no tabs"
            raise ConfigError(_NEW, option, "it has a character that cannot be printed", mend)
        if (text or option == "--sentence") and not text[:1].isalnum():
            raise ConfigError(_NEW, option, "it does not begin with a letter or a figure", "write a sentence")
    return french, english


def _now_s() -> int:
    from murmure_ingest.enrolment import utc_now

    return int(utc_now().timestamp())


def _sign(args: argparse.Namespace) -> int:
    from murmure_ingest.annotations import describe, sign_annotation

    print(describe(sign_annotation(Path(args.annotation), Path(args.key))))
    print(f"{args.annotation} is signed")
    return 0


def _publish(args: argparse.Namespace) -> int:
    from murmure_ingest.annotations import describe, publish_annotation

    sealed = Path(args.annotation).read_bytes()
    archive = _archive(args, read_only=False)
    note = publish_annotation(archive, sealed, args.annotation, _now_s()).note
    archive.close()
    print(describe(note))
    print("it is published: pages show it from their next build on")
    return 0


def _list(args: argparse.Namespace) -> int:
    import json

    from murmure_ingest.annotations import as_json, describe

    archive = _archive(args, read_only=True)
    notes = [stored.note for stored in archive.annotations(args.site)]
    archive.close()
    if args.json:
        print(json.dumps([as_json(note) for note in notes], ensure_ascii=False))
        return 0
    for note in notes:
        print(describe(note))
    if not notes:
        print("nothing is annotated; see 'murmure annotation new --help'")
    return 0
