"""The group `broker`: mosquitto's configuration, and whether the broker will go on letting gateways in."""

from __future__ import annotations

import argparse

from murmure_ingest.cli import _config, _group, _json, _leaf


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `broker init` and `broker check`."""
    broker = _group(groups, "broker", "the town's broker: mosquitto's configuration and certificates")
    init = _leaf(
        broker,
        "init",
        _init,
        "write mosquitto's configuration into a folder, or renew what is due in it",
        "murmure broker init /var/lib/murmure-broker --config ingest.toml --name murmure.example.org",
    )
    init.add_argument("folder", metavar="DIR", help="the broker's folder; run again, it keeps what was asked before")
    init.add_argument(
        "--name",
        action="append",
        metavar="HOST",
        help="name or address that gateways reach it by, beside those in ingest.toml; repeat",
    )
    init.add_argument("--listen", metavar="ADDR", help="the one address it listens on (all)")
    init.add_argument("--port", type=int, metavar="N", help="the port it listens on (8883)")
    init.add_argument("--workers", type=int, metavar="N", help="how many 'ingest run' share its quartiers (1)")
    init.add_argument("--user", metavar="USER", help="whom the broker runs as (mosquitto)")
    _config(init)
    _json(init)
    check = _leaf(
        broker,
        "check",
        _check,
        "say how long certificate and revocation list hold; 1 if not for long",
        "murmure broker check /var/lib/murmure-broker --json",
    )
    check.add_argument("folder", metavar="DIR", help="the broker's folder")
    _json(check)


def _init(args: argparse.Namespace) -> int:
    import json
    import sys
    from dataclasses import asdict
    from pathlib import Path

    from murmure_privacy.errors import MurmureError

    from murmure_ingest.broker import Settings, prepare, renewed, revoked_in, settings_of
    from murmure_ingest.config import load
    from murmure_ingest.enrolment import utc_now

    config = load(Path(args.config))
    folder = str(Path(args.folder).resolve())
    settings = renewed(
        settings_of(config.data_dir) or Settings(folder),
        folder=folder,
        names=tuple(args.name) if args.name else None,
        listen=args.listen,
        port=args.port,
        workers=args.workers,
        user=args.user,
    )
    program = str(Path(sys.argv[0]).absolute())  # not resolved: a link that an upgrade moves stays a link in the units
    try:
        revoked = revoked_in(config)
    except MurmureError as error:
        # As in `prepare`: who is revoked, the table of certificates knows too.
        print(f"murmure: {error}; the broker is renewed all the same", file=sys.stderr)
        revoked = []
    done = prepare(config, settings, revoked, utc_now(), program=program)
    if args.json:
        print(json.dumps(asdict(done)))
        return 0
    for line in done.did:
        print(line)
    for note in done.notes:
        print(f"note: {note}")
    if done.then == "start":
        print(
            f"\nInstall it, as root:\n"
            f"    cp -r {folder}/systemd/* /etc/systemd/system/ && systemctl daemon-reload\n"
            f"    systemctl enable --now murmure-broker.timer murmure-broker.path\n"
            f"    systemctl restart mosquitto\n"
            f"\nIn {args.config}, under [broker]:\n"
            f"    port = {settings.port}\n"
            + "".join(f"    {line}\n" for line in done.toml.splitlines())
            + f"\nThe revocation list holds until {done.crl_until}: murmure-broker.timer makes a new one every day."
        )
    elif done.then == "restart":
        print(f"then: systemctl restart mosquitto && rm {folder}/restart   (murmure-broker.service does it)")
    else:
        print("then: systemctl reload mosquitto   (SIGHUP; murmure-broker.service does it)")
    return 0


def _check(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict
    from pathlib import Path

    from murmure_ingest.broker import check
    from murmure_ingest.enrolment import utc_now

    findings = check(Path(args.folder), utc_now())
    good = all(finding.good for finding in findings)
    if args.json:
        print(json.dumps({"folder": args.folder, "good": good, "findings": [asdict(one) for one in findings]}))
    else:
        for finding in findings:
            print(f"{finding.what}: {finding.says}")
    return 0 if good else 1
