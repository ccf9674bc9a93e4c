"""What both ends of an enrolment say alike: the claim code, the proofs that each end knows it, and six words.

The centre makes a claim for one gateway and hands the code to a technician; the gateway shows by an HMAC that it has
the code, and so does the centre. Whoever sits between them without the code can make neither proof, for both cover the
fingerprint of the certificate that each end sees. The six words are for the ears of two people: they differ if the ends
saw different messages, even where somebody had copied the code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass

from murmure_privacy.errors import MurmureError

SECRET_BYTES, PIN_BYTES, CHECK_BYTES = 15, 8, 2
HOLDS_S = 72 * 3600
"""How long a claim may be used."""

MESSAGE_LIMIT = 256 * 1024
"""Bytes of a request or an answer; before each go its length, four bytes, big-endian."""

WAITING_LIMIT = 4096
"""Messages that may wait for their receipts while a gateway changes its keys: six weeks of quarter-hours."""

CHANGES_KEY = b"murmure rotation"
"""Goes before a statement of rotation where the old key signs it: nothing else that it signs begins so."""

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U
_MEANT = str.maketrans("ILO", "110", " -\t\n")
_GROUP = 5
_HASH_BYTES = 32  # and of a public key

WORDS = tuple(
    """
    abri accord acier agneau aigle ajout album algue ambre amont ancre ange anneau antre appel arbre arche ardoise
    arene argile armoire asile aube auteur avenir avion avril azur bague balade balcon banane banc barque basilic
    bateau bec berger beurre biche bijou billet bison blason bleuet bocal bois bonnet bosquet bougie boule bouton
    bras brebis brique brume buffet bulle bureau cabane cachet cactus cadran cahier caillou calme canal canot carafe
    carnet carton cascade castor cave cerise chaise chalet chant chariot chat chemin chene cheval ciel cigale citron
    clairon cloche coffre colline colombe comete copain coquille corail corde cosse coton coude cour craie crayon
    crique cube cuivre cygne dalle danse datte dauphin decor desert dessin diable domaine dragon drapeau dune ecluse
    ecorce ecran elan encre epice epine ermite escale espoir etage etoile facade farine faucon fenouil ferme figue
    filet flamme fleuve flute foin fontaine foret forge fougere fourmi fraise frere fruit fusain gamme garage gateau
    gazon genou girafe givre glace golfe gomme gouffre grain griffe grotte guide guitare hamac hamster haricot herbe
    hibou horloge huile huitre igloo image indigo iris jardin jaune jeton jonquille joue jumeau jupe kayak kiwi lac
    laine lampe lanterne lapin laurier lavande legume levure lezard lierre ligne limon lin lion livre loup lune
    lutin lynx magie maison mangue marbre marin massif melon menthe merle miel mimosa miroir moineau montagne moulin
    mousse muguet mur musee nacre nappe navet neige nid noix nuage oasis ocean oiseau olive ombre onde orage orange
    orchidee orge ours page paille palmier panier papier parc peigne perle plume pomme radis rivage
    """.split()  # noqa: SIM905 (256 words in quotes would be read by nobody)
)
"""256 French words without accents; their first four letters tell them apart."""


class ClaimError(MurmureError):
    """A claim code cannot be read: look at it again, or ask the centre for a new one."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim code: 15 random bytes, and the first 8 of the SHA-256 of the centre's enrolment certificate."""

    secret: bytes
    pin: bytes

    @property
    def text(self) -> str:
        """The code as it is written: eight groups of five letters and digits, the last of them a check."""
        body = self.secret + self.pin
        number = int.from_bytes(body + _check(body), "big")
        digits = ""
        for _ in range((SECRET_BYTES + PIN_BYTES + CHECK_BYTES) * 8 // 5):
            number, digit = divmod(number, len(_LETTERS))
            digits = _LETTERS[digit] + digits
        return "-".join(digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP))

    @property
    def name(self) -> str:
        """What a claim is known by: says nothing of its secret."""
        return hashlib.sha256(b"murmure claim" + self.secret).digest()[:8].hex()

    @property
    def key(self) -> bytes:
        """The key of both proofs."""
        return hmac.digest(self.secret, b"murmure enrolment", "sha256")


@dataclass(frozen=True, slots=True)
class Rotation:
    """A gateway's word, signed by its `old` record key (Ed25519, 32 bytes, as is `new`), that another speaks for it.

    `waiting`: the SHA-256 of each message that it has sealed and has no receipt for, in sequence; `first` is the number
    of the first, or of the next message if none waits. Once the new key has spoken, whatever else the old one signs is
    not the gateway's.
    """

    gateway: str
    old: bytes
    new: bytes
    first: int
    waiting: tuple[bytes, ...]

    @property
    def newest(self) -> int:
        """The number of the last message that was sealed before this word, 0 if there is none."""
        return self.first + len(self.waiting) - 1

    @property
    def statement(self) -> bytes:
        """The bytes that are signed, after CHANGES_KEY."""
        waiting = base64.b64encode(b"".join(self.waiting)).decode("ascii")
        fields = {"gateway": self.gateway, "old": self.old.hex(), "new": self.new.hex(), "first": self.first}
        return canonical({**fields, "waiting": waiting})

    def lists(self, seq: int, message_hash: bytes) -> bool:
        """Returns whether this message is one of those that waited."""
        at = seq - self.first
        return 0 <= at < len(self.waiting) and self.waiting[at] == message_hash


def read_rotation(statement: bytes) -> Rotation:
    """Returns the rotation that a statement tells. Raises ValueError for anything that `statement` would not write."""
    try:
        fields = json.loads(statement)
        hashes = base64.b64decode(fields["waiting"], validate=True)
        found = Rotation(
            gateway=fields["gateway"],
            old=bytes.fromhex(fields["old"]),
            new=bytes.fromhex(fields["new"]),
            first=fields["first"],
            waiting=tuple(hashes[at : at + _HASH_BYTES] for at in range(0, len(hashes), _HASH_BYTES)),
        )
        whole = type(found.first) is int and found.first >= 1 and found.statement == statement
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no statement of rotation") from error
    sizes = {len(found.old), len(found.new), *map(len, found.waiting)}
    if not whole or sizes != {_HASH_BYTES} or len(found.waiting) > WAITING_LIMIT:
        raise ValueError("no statement of rotation")
    return found


def new_claim(secret: bytes, fingerprint: bytes) -> Claim:
    """Returns the claim of SECRET_BYTES random bytes, at the centre whose certificate (DER) has this SHA-256."""
    return Claim(secret, fingerprint[:PIN_BYTES])


def parse_claim(text: str) -> Claim:
    """Returns the claim of a code, however it was typed: small letters, blanks, O for 0, I or L for 1.

    Raises ClaimError if letters are missing or one of them is wrong.
    """
    digits = text.upper().translate(_MEANT)
    wanted = (SECRET_BYTES + PIN_BYTES + CHECK_BYTES) * 8 // 5
    strange = sorted(set(digits) - set(_LETTERS))
    if strange:
        raise ClaimError(f"claim code: {strange[0]!r} is in no code; type the eight groups as they are printed")
    if len(digits) != wanted:
        raise ClaimError(f"claim code: {len(digits)} letters and digits where {wanted} belong; type all eight groups")
    number = 0
    for digit in digits:
        number = number * len(_LETTERS) + _LETTERS.index(digit)
    data = number.to_bytes(SECRET_BYTES + PIN_BYTES + CHECK_BYTES, "big")
    body, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
    if _check(body) != check:
        raise ClaimError("claim code: one of its letters is wrong; compare it with the paper")
    return Claim(body[:SECRET_BYTES], body[SECRET_BYTES:])


def canonical(fields: object) -> bytes:
    """Returns a JSON document in the one form that is signed: ASCII, keys sorted, no blanks."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")


def proof(key: bytes, who: str, fingerprint: bytes, *parts: bytes) -> str:
    """Returns the hexadecimal HMAC by which `who` ("gateway" or "centre") shows that it knows the code and speaks over
    the connection whose certificate has this fingerprint."""
    said = b"".join(len(part).to_bytes(4, "big") + part for part in (who.encode(), fingerprint, *parts))
    return hmac.new(key, said, "sha256").hexdigest()


def proves(given: object, key: bytes, who: str, fingerprint: bytes, *parts: bytes) -> bool:
    """Returns whether `given` is that proof."""
    return isinstance(given, str) and hmac.compare_digest(
        given.encode("utf-8", "replace"), proof(key, who, fingerprint, *parts).encode()
    )


def six_words(fingerprint: bytes, request: bytes, answer: bytes) -> str:
    """Returns the six words of one enrolment, for two people to compare."""
    seen = hashlib.sha256(
        b"murmure words" + b"".join(hashlib.sha256(x).digest() for x in (fingerprint, request, answer))
    )
    return " ".join(WORDS[byte] for byte in seen.digest()[:6])


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"murmure check" + body).digest()[:CHECK_BYTES]
