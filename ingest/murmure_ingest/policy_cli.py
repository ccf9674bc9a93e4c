"""The stewards' commands at the centre: policy key|sign|publish|history."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from murmure_privacy.speaking import add_lang, speaking

from murmure_ingest.cli import _config, _json, _leaf, _opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from murmure_privacy.plan import Plan
    from murmure_privacy.policy_words import Lang

    from murmure_ingest.archive import Archive
    from murmure_ingest.config import DecidingConfig


def register(policy: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds them to the group `policy`."""
    key = _leaf(
        policy, "key", speaking(_key), "make a steward's signing key", "murmure policy key --out dpo.key --role dpo"
    )
    key.add_argument(
        "--out", required=True, metavar="FILE", help="secret key (0600); FILE.pub beside it may be given away"
    )
    key.add_argument("--role", metavar="ROLE", help="steward, dpo, …: print the line that gives the key its role")
    sign = _leaf(
        policy,
        "sign",
        speaking(_sign),
        "sign a policy",
        "murmure policy sign plaza.toml --key steward.key --out plaza.cose",
    )
    sign.add_argument("policy", metavar="FILE", help="the policy, TOML")
    sign.add_argument("--key", required=True, metavar="KEYFILE", help="the steward's secret key")
    sign.add_argument(
        "--out", required=True, metavar="FILE.cose", help="signed policy; if it exists, a signature is added"
    )
    publish = _leaf(
        policy,
        "publish",
        speaking(_publish),
        "hand a signed policy to the centre",
        "murmure policy publish plaza.cose --config ingest.toml",
    )
    publish.add_argument("policy", metavar="FILE.cose", help="the signed policy")
    _config(publish)
    history = _leaf(
        policy,
        "history",
        speaking(_history),
        "show every policy: when, by whom, by what decision, and what it made tighter or looser",
        "murmure policy history plaza --config ingest.toml --lang fr",
    )
    history.add_argument("site", nargs="?", metavar="SITE", help="one site (all)")
    for command in (key, sign, publish, history):
        add_lang(command)
    _config(history)
    _json(history)


def _lang(args: argparse.Namespace) -> Lang:
    from murmure_privacy.policy_words import language

    lang: Lang = args.lang or language()
    return lang


def _told(args: argparse.Namespace, sentence: str, /, **places: object) -> str:
    from murmure_privacy.policy_words import CENTRE

    return CENTRE[sentence][_lang(args)].format(**places)


def _key(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from murmure_ingest.gateways import new_secret, require_role

    if args.role is not None:
        require_role(args.role)
    public = new_secret(Path(args.out)).hex()
    print(public)
    if args.role is not None:
        # A role belongs to the key where it is trusted, and never to what it signs.
        print(_told(args, "role", key=public, role=args.role), file=sys.stderr)
    return 0


def _sign(args: argparse.Namespace) -> int:
    from pathlib import Path

    from murmure_ingest.gateways import sign_policy

    sign_policy(Path(args.policy), Path(args.key), Path(args.out))
    print(_told(args, "signed", file=args.out))
    return 0


def _publish(args: argparse.Namespace) -> int:
    from pathlib import Path

    from murmure_privacy.decide import NOTICE_S, Accept, HoldUntil
    from murmure_privacy.french import french

    from murmure_ingest.enrolment import utc_now
    from murmure_ingest.gateways import publish_policy, verdicts

    config, archive = _opened(args)
    sealed = Path(args.policy).read_bytes()
    words = verdicts(archive, sealed, config.deciding, args.policy)
    first = verdicts(archive, sealed, config.deciding, args.policy, first=True)
    waits = [gateway for gateway, word in words if isinstance(word, HoldUntil)]
    policy = publish_policy(archive, sealed, args.policy, int(utc_now().timestamp()), config.deciding)
    print(_told(args, "published", version=policy.version, site=policy.site, hash=policy.hash.hex()))
    days = NOTICE_S // 86_400
    if waits:
        why = "loosens" if policy.version > 1 and len(archive.policies(policy.site)) > 1 else "no_first"
        print(_told(args, why, days=days, gateways=", ".join(waits)))
    for gateway, word in first:
        if isinstance(word, HoldUntil) and gateway not in waits:
            print(_told(args, "newer", gateway=gateway, days=days))
        elif not isinstance(word, HoldUntil | Accept):
            said = (word.reason, word.detail.partition(": ")[0])
            reason, detail = said if _lang(args) == "en" else (french(one) or one for one in said)
            following = policy.version + 1
            print(_told(args, "not_taken", gateway=gateway, reason=reason, detail=detail, next=following))
    return 0


def _history(args: argparse.Namespace) -> int:
    import json

    from murmure_privacy import policy_words as words

    config, archive = _opened(args)
    entries = list(_entries(archive, config.deciding, args.site))
    archive.close()
    if args.json:
        print(json.dumps(entries, ensure_ascii=False))
        return 0
    lang = _lang(args)
    told = words.DIRECTIONS[lang]
    for entry in entries:
        signers = ", ".join(signer["role"] or f"{signer['key'][:16]}…" for signer in entry["signers"])
        when = entry["published"] or f"{told['valid_from']} {entry['valid_from']}"
        way = told[entry["direction"]]
        print(f"{entry['site']} {entry['version']}  {when}  {entry['decision']}  ({signers})  {way}")
        for one in entry["differences"]:
            print(f"  {'!' if one['way'] in ('looser', 'unlike') else ' '} {one[lang]}")
    if not entries:
        print(told["none"])
    return 0


def _entries(archive: Archive, deciding: DecidingConfig, site: str | None) -> Iterator[dict[str, Any]]:
    """Yields every policy, by site and version, with what it changed."""
    import json

    from murmure_privacy import policy_words as words
    from murmure_privacy import wire
    from murmure_privacy.decide import compare

    from murmure_ingest.rules import PolicyRules

    told = (json.loads(entry) for _, kind, _, _, entry, _ in archive.log_rows() if kind == "policy")
    published = {entry["hash"]: entry["published"] for entry in told}
    stewards: dict[str, dict[bytes, None]] = {}
    for line in archive.enrolments():
        stewards.setdefault(line.site, {}).update(dict.fromkeys(line.stewards))
    newest: dict[str, Plan] = {}
    for one in archive.policies(site):
        made = PolicyRules(one.toml).plan
        older = newest.get(one.site)
        newest[one.site] = made
        found = () if older is None else compare(older, made)
        yield {
            "site": one.site,
            "version": one.version,
            "policy": f"sha256:{one.hash.hex()}",
            "published": published.get(one.hash.hex()),
            "valid_from": made.policy.valid_from.isoformat(),
            "valid_until": made.policy.valid_until.isoformat(),
            "decision": made.policy.decision,
            "reason": made.policy.reason,
            "signers": [
                {"key": key.hex(), "role": deciding.roles.get(key)}
                for key in wire.policy_signers(one.sealed, stewards.get(one.site, ()))
            ],
            "direction": "first" if older is None else words.direction(found),
            "differences": [
                {"stream": each.stream, "what": each.what, "way": each.way}
                | {lang: words.said(each, lang) for lang in words.LANGS}
                for each in found
            ],
        }
