"""What is secret: told by the name it goes under or by its look. Each secret gets a name for ``${secret.NAME}``."""

import math
import re
from collections import Counter

from services.console.importing.naming import Names, snake

# Looked for in the name without its separators: ``X-Auth-Token``, ``authToken`` and ``auth_token`` are one.
_SECRET = re.compile(
    r"password|passwd|passphrase|passcode|secret|token|apikey|accesskey|privatekey|subscriptionkey|functionskey|authkey"
    r"|appkey|clientkey|licensekey|credential|sessionid|sessid|authorization|signature|bearer|jwt|csrf|xsrf|codeverifier"
)
_SECRET_WORD = re.compile(r"(^|_)(auth|pwd|pass|pin|t?otp|mfa|cvv|cvc|sid|sig|session|ssn|iban)(_|$)")
# What is said about a secret is none: ``token_type``, ``password_enabled``, ``max_tokens``.
_ABOUT = re.compile(
    r".*_(type|count|limit|name|expiry|expires|in|ttl|length|size|enabled|required|url|uri|at)"
    r"|(max|min|num|count|total|has|is)_.*"
)
_SECRET_AS_NUMBER = re.compile(r"password|passcode|secret|(^|_)(pin|otp|totp|cvv|cvc|ssn)(_|$)")
_LOOKS_SECRET = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"
    r"|\b[Bb]earer [\w.~+/=-]{16,}"
    r"|\b(?:sk|pk|rk)[-_][\w-]{16,}"
    r"|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bxox[abeprs]-[\w-]{10,}"
    r"|\bA[KS]IA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OPAQUE = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_+/=~.-]{24,}")
_NO_SECRET = re.compile(r"hash|sha\d|checksum|digest|etag")
OPAQUE_BITS_PER_SIGN = 3.3
SPREAD_FROM = 8


def is_secret_name(name: str, value: object = "") -> bool:
    """Whether what goes under this name is kept out of a scenario; of numbers only passwords, PINs and their like."""
    spelt = snake(name, "")
    if _ABOUT.fullmatch(spelt):
        return False
    if not isinstance(value, str):
        return _SECRET_AS_NUMBER.search(spelt) is not None
    return bool(_SECRET.search(spelt.replace("_", "")) or _SECRET_WORD.search(spelt))


def looks_opaque(name: str, text: str) -> bool:
    """Whether a text reads like a key: long, of letters and digits, near to random, and no UUID or checksum."""
    if name and snake(name).endswith("key") and re.fullmatch(r"[\w+/=~.-]{16,}", text):
        return True
    if not _OPAQUE.fullmatch(text) or _UUID.fullmatch(text) or _NO_SECRET.search(snake(name)):
        return False
    counts = Counter(text)
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())
    return bits > OPAQUE_BITS_PER_SIGN and not re.fullmatch(r"[a-z]+([._/-][a-z0-9]+)*", text)


def split_secret_looks(text: str) -> list[tuple[bool, str]]:
    """The text in pieces, each with whether it has the look of a well-known kind of key."""
    pieces = []
    end = 0
    for match in _LOOKS_SECRET.finditer(text):
        pieces += [(False, text[end : match.start()]), (True, match[0])]
        end = match.end()
    return [(secret, piece) for secret, piece in [*pieces, (False, text[end:])] if piece]


class Secrets:
    """Templates of the secrets met so far. ``places`` tells where each was first used, without its value.

    ``recorded``: values are real, so one value is one secret wherever it stands. Otherwise they are placeholders of a
    description, and one name is one secret.
    """

    def __init__(self, recorded: bool) -> None:
        self._recorded = recorded
        self._names = Names()
        self._by_value: dict[str, str] = {}
        self._seen: dict[str, str] = {}
        self.places: dict[str, str] = {}

    def copy(self) -> "Secrets":
        """Another that knows the same values; what it names is its own."""
        other = Secrets(self._recorded)
        other._seen = dict(self._seen)
        return other

    def note(self, value: str, wanted: str) -> None:
        """Remember a value that is secret wherever it stands; it is named when it is used."""
        if value and self._recorded:
            self._seen.setdefault(value, wanted)

    def template(self, value: str, wanted: str, place: str) -> str:
        key = value if self._recorded else wanted
        if key not in self._by_value:
            self.note(value, wanted)
            self._by_value[key] = self._names.give(snake(wanted, "secret"))
        name = self._by_value[key]
        self.places.setdefault(name, place)
        return f"${{secret.{name}}}"

    def find(self, value: str, place: str, *, whole: bool) -> str | None:
        """Template of a known secret; within a longer text only of one that cannot be a common word or number."""
        if value not in self._seen:
            return None
        distinct = len(value) >= SPREAD_FROM and not (value.isalpha() and value.islower()) and not value.isdigit()
        return self.template(value, self._seen[value], place) if whole or distinct else None
