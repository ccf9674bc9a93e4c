"""The short code of a published figure: ten letters and figures that lead to what a gateway has signed for it.

The first three name the day (UTC) on which its node ends, so that one file of sealed messages is enough; six are of a
hash of stream, node, begin and indicator; the last is a check. Two figures of one day can have one code, about one pair
a day in a town of fifty gateways: then it leads to both.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from murmure_privacy.window import utc

LENGTH = 10
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U
_MEANT = str.maketrans("ILO", "110", " -")
_FIRST_DAY = 18_262  # 2020-01-01, in days since 1970
_DAY_S = 86_400


def code(stream: str, node: str, start_s: int, end_s: int, indicator: str) -> str:
    """Returns the code of a figure, in two groups. `indicator`: the name that it has in the tables."""
    begin, day, weighed = _begin(start_s), *_of_day((end_s - 1) // _DAY_S)
    digest = int.from_bytes(sha256(f"{stream} {node} {begin} {indicator}".encode()).digest()[:4], "big") >> 2
    # Of pages and tables of a town there are a million in a build: written out, in a quarter of the time of a loop.
    a, b, c = digest >> 25, digest >> 20 & 31, digest >> 15 & 31
    d, e, f = digest >> 10 & 31, digest >> 5 & 31, digest & 31
    check = weighed + 7 * a + 9 * b + 11 * c + 13 * d + 15 * e + 17 * f & 31
    told = _LETTERS
    return f"{day}{told[a]}{told[b]}-{told[c]}{told[d]}{told[e]}{told[f]}{told[check]}"


def read(text: str) -> tuple[str, int]:
    """Returns a code as it is written, and the day (since 1970, UTC) that it names. Raises ValueError for what is none:
    of the wrong length, or mistyped in one place."""
    letters = text.upper().translate(_MEANT)
    if len(letters) != LENGTH or not set(letters) <= set(_LETTERS) or _check(letters[:-1]) != letters[-1]:
        raise ValueError(f"{text!r} is no code")
    day = 0
    for letter in letters[:3]:
        day = day * 32 + _LETTERS.index(letter)
    return _shown(letters), day + _FIRST_DAY


_begin = lru_cache(maxsize=16_384)(utc)  # the hours of a year, which all streams share


@lru_cache(maxsize=1024)
def _of_day(day: int) -> tuple[str, int]:
    """Returns the three letters of a day (since 1970, UTC), and what they give to the check."""
    value = day - _FIRST_DAY
    letters = "".join(_LETTERS[value >> shift & 31] for shift in (10, 5, 0))
    return letters, _weighed(letters)


def _shown(letters: str) -> str:
    return f"{letters[:5]}-{letters[5:]}"


def _check(letters: str) -> str:
    return _LETTERS[_weighed(letters) % 32]


def _weighed(letters: str) -> int:
    """Odd weights: no other letter in one place gives the same rest by 32."""
    return sum((2 * place + 1) * _LETTERS.index(letter) for place, letter in enumerate(letters))
