"""How dear is a sealed message? Beside the bare Ed25519 operation, which no format can do without."""

from __future__ import annotations

import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from murmure_privacy import wire
from murmure_privacy.release import Message, Node, Noised, Release

START_S = 1_700_000_100
ROUNDS = 5
CALLS = 400


def per_second(call: Callable[[], object]) -> float:
    """Returns the calls a second of the best of a few rounds."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        for _ in range(CALLS):
            call()
        best_s = min(best_s, time.perf_counter() - began_s)
    return CALLS / best_s


def main() -> None:
    """Prints messages a second, each with its ratio to the bare operation on as many bytes."""
    nodes = [
        Node(f"plaza/{name}", "footfall", level, START_S, START_S + 900, START_S, 20, 1000, (0, 0), bytes(32))
        for name in ("north", "south")
        for level in ("15min", "1h", "6h", "1d")
    ]
    releases = tuple(Release(node, (Noised("crossings", (211,), 9458, 5590),)) for node in nodes)
    message = Message("gw-a", "centre", "plaza", 1, 812, bytes(32), START_S + 900, releases)
    secret, public = wire.new_key()
    sealed = wire.seal_message(message, secret)
    key = Ed25519PrivateKey.from_private_bytes(secret)
    signature = key.sign(sealed)
    print(f"a message of {len(nodes)} nodes: {len(sealed)} bytes of {wire.MESSAGE_LIMIT}")
    for name, ours, bare in (
        ("seal", lambda: wire.seal_message(message, secret), lambda: key.sign(sealed)),
        ("open", lambda: wire.open_message(sealed, public), lambda: key.public_key().verify(signature, sealed)),
    ):
        rate, peer = per_second(ours), per_second(bare)
        print(f"{name}: {rate:,.0f}/s, {rate / peer:.2f} of bare Ed25519 ({peer:,.0f}/s)")


if __name__ == "__main__":
    main()
