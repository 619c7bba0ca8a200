"""The key in strangers' words: every disguise is seen through, ordinary words are left alone."""

import base64
import html
import json
import re
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from venice_watch.redact import REDACTED, WITHHELD, Redactor

SECRET = "sk-not-a-real-key-4711"
ESCAPED = "".join(f"\\u{ord(one):04x}" for one in SECRET)
PIECES = (SECRET[:10], SECRET[11:], "%41", "%", "\\u0041", "\\", "&amp;", "&#65;", "\u200b", "\n")
SHIFTS = ("", "x", "xy")  # what stands before the key moves it within base64's groups of three


def squeezed(text: str) -> str:
    """Return letters and digits alone, in lower case."""
    return re.sub(r"[^0-9a-z]", "", text.lower())


DISGUISES = {
    "escaped": ESCAPED,
    "escaped in capitals": ESCAPED.upper().replace("\\U", "\\u"),
    "escaped in part": SECRET.replace("-", "\\u002d"),
    "escaped twice": json.dumps(ESCAPED)[1:-1],
    "escaped three times": json.dumps(json.dumps(ESCAPED))[1:-1],
    "in JSON in JSON": json.dumps({"error": json.dumps({"h": SECRET.replace("-", "\\u002d")})}),
    "in broken JSON": f'{{"error":"{ESCAPED}"',
    "escaped bytes": "".join(f"\\x{ord(one):02x}" for one in SECRET),
    "escaped code points": "".join(f"\\u{{{ord(one):x}}}" for one in SECRET),
    "two lines": SECRET[:10] + "\n" + SECRET[10:],
    "a line each": "\r\n".join(SECRET),
    "spaces": " ".join(SECRET),
    "zero width": "\u200b".join(SECRET),
    "byte order marks": "\ufeff".join(SECRET),
    "UTF-16": SECRET.encode("utf-16-le").decode("latin-1"),
    "UTF-16, the other end": SECRET.encode("utf-16").decode("latin-1"),
    "UTF-16 as bad UTF-8": SECRET.encode("utf-16").decode("utf-8", "replace"),
    **{
        f"base64 at {len(shift)}": base64.b64encode(f"{shift}{SECRET}".encode()).decode()
        for shift in SHIFTS
    },
    **{
        f"base64 at {len(shift)}, more behind": base64.b64encode(
            f"{shift}{SECRET} and more".encode()
        ).decode()
        for shift in SHIFTS
    },
    "a header in base64": base64.b64encode(f"Bearer {SECRET}".encode()).decode(),
    "base64 over lines": base64.encodebytes(b"0123456789" * 4 + SECRET.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(f"user:{SECRET}".encode()).decode(),
    "hex": SECRET.encode().hex(),
    "hex in capitals": SECRET.encode().hex().upper(),
    "hex with colons": SECRET.encode().hex(":"),
    "percent": "".join(f"%{ord(one):02x}" for one in SECRET),
    "percent in part": SECRET.replace("-", "%2D"),
    "percent twice": quote("".join(f"%{ord(one):02x}" for one in SECRET)),
    "entities": "".join(f"&#{ord(one)};" for one in SECRET),
    "hex entities": "".join(f"&#x{ord(one):x};" for one in SECRET),
    "entities twice": html.escape("".join(f"&#{ord(one)};" for one in SECRET)),
    "capitals": SECRET.upper(),
    "mixed case": SECRET.title(),
    "reversed": SECRET[::-1],
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("around", ["{}", "HTTP 400: no such key: {} (check it)\n"])
def test_disguised(disguise: str, around: str) -> None:
    """Words with the key in a disguise are withheld as a whole, whatever stands around it."""
    text = around.format(DISGUISES[disguise])
    assert Redactor([SECRET]).words(text) == WITHHELD


def test_plain_and_disguised() -> None:
    """One plain occurrence does not let a disguised one pass."""
    assert Redactor([SECRET]).words(f"{SECRET} or {SECRET.upper()}") == WITHHELD


def test_plain_only() -> None:
    """A plain occurrence is cut out, and the words around it stay."""
    assert Redactor([SECRET]).words(f"key {SECRET}: expired") == f"key {REDACTED}: expired"


def test_each_secret() -> None:
    """Every secret is looked for, not only the first."""
    redactor = Redactor(["another-secret-0815", SECRET])
    assert redactor.words(SECRET.upper()) == WITHHELD
    assert redactor.words("ANOTHER-SECRET-0815") == WITHHELD


@given(text=st.lists(st.sampled_from(PIECES) | st.text(max_size=40), max_size=8).map("".join))
@example("Rate limit exceeded; sk-... is not a real key")
@example("100% sure \\u00e9 &amp; %41 &#65; \\\\x41")
@example("sk-not-a-real-key-471")
def test_ordinary_words(text: str) -> None:
    """Words without the key come out exactly as they went in, escapes and all."""
    assume(squeezed(SECRET) not in squeezed(html.unescape(text)))
    assert Redactor([SECRET]).words(text) == text


@given(
    secret=st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-_"), min_size=12),
    before=st.text(max_size=20),
    behind=st.text(max_size=20),
)
def test_no_key_survives(secret: str, before: str, behind: str) -> None:
    """Whatever the key and the words around it are, it is not in what comes out."""
    assume(len(squeezed(secret)) >= 8)  # shorter ones are too common to be looked for
    assume(squeezed(secret) not in squeezed(REDACTED + WITHHELD))
    for disguised in (secret, secret.upper(), secret.encode().hex(), "\u200b".join(secret)):
        words = Redactor([secret]).words(before + disguised + behind)
        assert squeezed(secret) not in squeezed(words)
        assert secret.encode().hex() not in words
