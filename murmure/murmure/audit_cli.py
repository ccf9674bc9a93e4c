"""`murmure audit`: is what leaves a gateway as private as its policy says?"""

from __future__ import annotations

import argparse
import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from murmure_privacy.policy import Policy

    from murmure.audit import Claim, Report, Result, Run
    from murmure.audit_statistics import Proof

DEFAULT_RUNS = 1000
DEFAULT_RHO = "0.5"
UNITS = ("crossings", "seconds", "up_to")


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `audit`."""
    audit = groups.add_parser(
        "audit",
        help="prove from outside whether what leaves is as private as the policy says",
        description="Runs the gateway's own software many times on two streets that differ in one unit of privacy,\n"
        "looks at the sealed messages alone, and proves lower bounds on epsilon. Exit status 1 if one is above its\n"
        "claim or if what leaves is not as the policy says.\n"
        "Without --policy it audits a street of its own that holds every unit; see docs/audit.md.",
        epilog="example: murmure audit --policy policy.toml --runs 5000 --picture audit.svg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    audit.add_argument("--policy", type=Path, metavar="FILE", help="a policy as TOML, audited at its own epsilon")
    audit.add_argument("--rho", metavar="R", help=f"without --policy: rho of one unit in each stream ({DEFAULT_RHO})")
    audit.add_argument("--stream", metavar="ID", help="only this stream")
    audit.add_argument("--unit", choices=UNITS, help="only streams that protect this kind of unit")
    audit.add_argument("--runs", type=int, default=DEFAULT_RUNS, metavar="N", help=f"of each street ({DEFAULT_RUNS})")
    audit.add_argument("--picture", type=Path, metavar="FILE", help="draw what was found as SVG")
    audit.add_argument("--json", action="store_true", help="one JSON document")
    audit.set_defaults(handler=_audit)


def _audit(args: argparse.Namespace) -> int:
    from murmure_privacy.errors import ConfigError

    from murmure import audit, audit_picture, audit_street, progress

    if not 100 <= args.runs <= 1_000_000:
        raise ConfigError("audit", "--runs", f"{args.runs} is out of range", "write 100 to 1000000")
    policy, newer, source = _policies(args)
    known = [stream.id for stream in policy.streams]
    if args.stream is not None and args.stream not in known:
        raise ConfigError(source, "stream", f"no {args.stream!r}", f"write one of {', '.join(known)}")
    chosen = [
        stream.id
        for stream in policy.streams
        if args.stream in (None, stream.id) and args.unit in (None, audit_street.unit_of(stream))
    ]
    if not chosen:
        raise ConfigError(source, "protects", f"no such stream protects {args.unit}", "leave --unit out")
    scripts = audit_street.scripts(policy, newer, chosen, source)
    if args.picture is not None:
        _writable(args.picture)  # asked first: a long audit must not lose its report at the end
    with progress.Reporter(quiet=False) as reporter:
        report = audit.audit(audit.Agent(), scripts, args.runs, progress=reporter.runs)
    if args.picture is not None:
        args.picture.write_text(audit_picture.draw(report), encoding="utf-8")
    if args.json:
        print(json.dumps(_as_json(report, policy)))
    else:
        _print(report)
    return 1 if report.failed else 0


def _writable(picture: Path) -> None:
    from murmure_privacy.errors import ConfigError

    try:
        with picture.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigError(
            str(picture), "--picture", error.strerror or str(error), "name a file that can be written"
        ) from error


def _policies(args: argparse.Namespace) -> tuple[Policy, Policy | None, str]:
    from murmure_privacy import policy
    from murmure_privacy.errors import ConfigError

    from murmure import audit_street

    if args.policy is None:
        try:
            rho = Decimal(args.rho or DEFAULT_RHO)
        except InvalidOperation:
            rho = Decimal(0)
        if not rho.is_finite() or not Decimal("0.001") <= rho <= 2:
            raise ConfigError("audit", "--rho", f"{args.rho} is out of range", "write 0.001 to 2")
        return *audit_street.street(rho), "the audit's own street"
    if args.rho is not None:
        raise ConfigError("audit", "--rho", "a policy has its own epsilon", "leave it out")
    source = str(args.policy)
    try:
        return policy.parse(args.policy.read_bytes(), source), None, source
    except OSError as error:
        raise ConfigError(source, "file", error.strerror or str(error), "give a readable policy") from error


def _as_json(report: Report, policy: Policy) -> dict[str, Any]:
    return {
        "verdict": "exceeded" if report.failed else "within",
        "policy": f"sha256:{policy.hash.hex()}",
        "confidence": report.confidence,
        "claims": [_result_json(result) for result in report.results],
        "checks": [
            {
                "check": check.name,
                "placement": check.placement,
                "runs": check.runs,
                "final": check.final,
                "verdict": "failed" if check.problem else "ok",
                "problem": check.problem,
                "risk": check.risk,
            }
            for check in report.checks
        ],
    }


def _result_json(result: Result) -> dict[str, Any]:
    return {
        "stream": result.stream,
        "unit": result.unit,
        "placement": result.placement,
        "claim": {
            "rho": result.claim.rho,
            "epsilon": result.claim.epsilon,
            "delta": result.claim.delta,
            "mu": _finite(result.claim.mu),
        },
        "mu_of_canary": result.mu_of_canary,
        "verdict": "exceeded" if result.exceeded else "within",
        "reruns": len(result.runs) - 1,
        "runs": [_run_json(run, result.claim) for run in result.runs],
    }


def _run_json(run: Run, claim: Claim) -> dict[str, Any]:
    return {
        "runs": run.runs,
        "epsilon_bound": _finite(run.epsilon.bound),
        "mu_bound": _finite(run.mu.bound),
        "rho_bound": _finite(run.rho.bound),
        "verdict": "exceeded" if run.exceeds(claim) else "within",
        "by": {"epsilon": _proof_json(run.epsilon), "mu": _proof_json(run.mu), "rho": _proof_json(run.rho)},
    }


def _proof_json(proof: Proof) -> dict[str, Any]:
    return {
        "threshold": proof.threshold,
        "counted": proof.runs,
        "tpr": proof.hits / proof.runs,
        "tpr_low": proof.hit_low,
        "fpr": proof.alarms / proof.runs,
        "fpr_high": proof.alarm_high,
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity: what is proved or claimed without end is null."""
    return value if value < float("inf") else None


def _print(report: Report) -> None:
    print(
        f"Lower bounds with {report.confidence:.1%} confidence, beside what the policy claims for one unit of privacy:"
    )
    print(f"  {'stream':<22} {'unit':<12} {'canary':<7} {'runs':>7}  {'epsilon':>15}  {'mu':>13}  {'rho':>15}")
    for result in report.results:
        for run in result.runs:
            claim = result.claim
            said = (
                f"  {result.stream:<22} {result.unit:<12} {result.placement:<7} {run.runs:>7}"
                f"  {run.epsilon.bound:6.3f} <= {claim.epsilon:5.3f}  {run.mu.bound:5.3f} <= {claim.mu:5.3f}"
                f"  {run.rho.bound:6.4f} <= {claim.rho:6.4f}"
            )
            print(said + ("  EXCEEDED" if run.exceeds(claim) else ""))
    for check in report.checks:
        if check.problem:
            again = "" if check.final else "; done again with more runs"
            print(f"  {check.name} ({check.placement}, {check.runs} runs): {check.problem}{again}")
    passed = sum(check.problem is None for check in report.checks)
    print(f"  {passed} of {len(report.checks)} looks at what leaves found nothing")
    print("verdict: " + ("EXCEEDED: do not use this software" if report.failed else "within the claim"))
