"""Taking secrets out of text, whoever wrote it: a server may echo the key in any disguise.

A plain occurrence is replaced. Where only a disguised one is found (escaped, encoded, spread
over lines, in another case), the whole text is withheld: half a secret is a secret too.
"""

import base64
import html
import re
from collections.abc import Iterable
from urllib.parse import unquote

REDACTED = "[key removed]"
WITHHELD = "[words withheld: the key was in them]"
SECRET_CHARACTERS_MIN = 4  # shorter ones stand in too many words to be taken out
DISGUISED_CHARACTERS_MIN = 8  # shorter ones are found squeezed in ordinary text
_ESCAPED = re.compile(r"\\+(?:u\{([0-9a-f]{1,6})\}|u([0-9a-f]{4})|x([0-9a-f]{2}))", re.IGNORECASE)
_NOISE = re.compile(r"[^0-9a-z]+")


class Redactor:
    """Takes a set of secrets out of text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: list[str] = []
        self._disguises: frozenset[str] = frozenset()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Take these out as well from now on."""
        kept = {one for one in secrets if len(one) >= SECRET_CHARACTERS_MIN}
        self._secrets = sorted(kept.union(self._secrets), key=len, reverse=True)
        self._disguises |= frozenset(
            _squeezed(form)
            for one in kept
            if len(one) >= DISGUISED_CHARACTERS_MIN
            for form in _encodings(one)
        )

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text

    def words(self, text: str) -> str:
        """Return a stranger's words without secrets, disguised ones included."""
        text = self.text(text)
        for form in (text, _unescaped(text)):
            squeezed = _squeezed(form.replace(REDACTED, " "))
            if any(disguise in squeezed for disguise in self._disguises):
                return WITHHELD
        return text


def _encodings(secret: str) -> list[str]:
    data = secret.encode()
    # base64 looks different at each of three offsets; what depends on the neighbours is left off
    shifted = [base64.b64encode(b"\0" * shift + data).decode().rstrip("=") for shift in range(3)]
    inner = [text[start:-1] for text, start in zip(shifted, (0, 2, 3), strict=True)]
    return [secret, secret[::-1], data.hex(), *inner]


def _unescaped(text: str) -> str:
    """Undo escapes of JSON, URLs and HTML, nested ones too."""
    for _ in range(3):
        text = _ESCAPED.sub(_unescaped_one, text)
        text = html.unescape(unquote(text))
    return text


def _unescaped_one(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    return chr(min(int(digits, 16), 0x10FFFF))


def _squeezed(text: str) -> str:
    """Return letters and digits alone, in lower case: spreading and case are no disguise."""
    return _NOISE.sub("", text.lower())
