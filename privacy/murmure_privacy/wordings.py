"""Policies of a town, which are one text with another name in it: parsed once (docs/decisions/0049)."""

from __future__ import annotations

import re
from dataclasses import replace

from murmure_privacy.policy import Policy, parse
from murmure_privacy.wire import POLICY_LIMIT, TEXT_LIMIT, digest

_WORDINGS_KEPT = 256
_SITE = re.compile(rb'^site = "([A-Za-z0-9_-]{1,40})"$', re.MULTILINE)
_ELSEWHERE = b"\0"  # stands for the site: no text of TOML has this byte


class Wordings:
    """Parses policies: of those that differ in nothing but their site, as a town's do, one. Says what `parse` says, and
    raises what it raises.

    Why that is so: a policy that is remembered holds the name of its site in its `site` and at the beginning of the id
    of each stream, and nowhere else: it has no more occurrences than that, and without a backslash each text is what
    it looks like. Another name, of letters that mean nothing to TOML within a text, changes these values only.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Policy] = {}  # by what they say, without the name of the site

    def __call__(self, toml: bytes, source: str) -> Policy:
        """Returns the policy in these bytes. Raises ConfigError."""
        found = _SITE.search(toml)
        if found is not None and _ELSEWHERE not in toml and len(toml) <= POLICY_LIMIT:
            site, known = found[1].decode(), self._known.get(toml.replace(found[1], _ELSEWHERE))
            names = [site + stream.id[len(known.site) :] for stream in known.streams] if known else []
            if known is not None and max(map(len, names)) <= TEXT_LIMIT:
                streams = tuple([replace(stream, id=name) for stream, name in zip(known.streams, names, strict=True)])
                return replace(known, site=site, streams=streams, hash=digest(toml), text=toml)
        policy = parse(toml, source)
        said = toml.replace(policy.site.encode(), _ELSEWHERE)
        if said.count(_ELSEWHERE) == 1 + len(policy.streams) and b"\\" not in toml:
            if len(self._known) >= _WORDINGS_KEPT:
                self._known.clear()
            self._known[said] = policy
        return policy
