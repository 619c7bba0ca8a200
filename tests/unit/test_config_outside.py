"""Receivers and web server in a configuration: what is refused; addresses stay secret."""

import importlib.util
from pathlib import Path

import pytest

from venice_watch.config.load import loads
from venice_watch.config.model import Config
from venice_watch.config.outside import Listen, Via, secrets_of
from venice_watch.errors import ConfigError

BASE = (
    "state_dir: /s\npresets: {photo: {}}\nfolders: [{name: f, inbox: /i, outbox: /o, "
    "quarantine: /q, archive: /a, preset: photo}]\n"
)
SECRET = "T0pSecretPartOfIt"


def read(text: str, **environment: str) -> Config:
    """Read a configuration that has this beside what must be there."""
    return loads(BASE + text, Path("/x/c.yaml"), environment)


def test_nobody_is_told_unless_asked_for() -> None:
    """Without a word there is no receiver, no server and no file."""
    config = read("")
    assert (config.notify, config.web.listen, config.metrics_file) == ((), None, None)


def test_each_way() -> None:
    """An entry becomes a receiver by the one key that has its address; variables are expanded."""
    config = read(
        "notify:\n- webhook: 'https://h.example/${PART}'\n- ntfy: http://ntfy.lan/t\n"
        "- {ping: 'https://hc.example/u', every: 1m}\n- apprise: 'json://localhost/x'\n",
        PART=SECRET,
    )
    assert [one.via for one in config.notify] == [Via.WEBHOOK, Via.NTFY, Via.PING, Via.APPRISE]
    assert config.notify[0].addresses[0].text == f"https://h.example/{SECRET}"
    assert config.notify[2].every_s == 60


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (f"{{webhook: 'http://h.example/{SECRET}'}}", "plain http would be readable"),
        (f"{{webhook: 'https://u:{SECRET}@h.example/'}}", "headers_file or token_file"),
        (f"{{webhook: 'ftp://h.example/{SECRET}'}}", "must be an https address"),
        (f"{{webhook: 'https://[h/{SECRET}'}}", "is no address"),
        (f"{{webhook: 'https://h.example/a {SECRET}'}}", "contains a space"),
        (f"{{webhook: 'https://h/{SECRET}', ping: 'https://h/{SECRET}'}}", "exactly one of"),
        ("{on: key}", "exactly one of webhook, ntfy, ping, apprise, and has none"),
        ("{ping: 'https://h/x', digest: 1m, priority: low}", "digest, priority: means nothing"),
        ("{webhook: 'https://h/x', every: 1m}", "every: means nothing for webhook"),
        ("{webhook: 'https://h/x', on: [kez]}", "did you mean `key`"),
        ("{webhook: 'https://h/x', on: []}", "nothing would be told"),
        ("{webhook: 'https://h/x', digest: 1s}", "outside 10s to 1d"),
        ("{webhok: 'https://h/x'}", "did you mean `webhook`"),
    ],
)
def test_refused(entry: str, words: str) -> None:
    """Each mistake is named, and none repeats the address."""
    with pytest.raises(ConfigError) as caught:
        read(f"notify: [{entry}]\n")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_addresses_are_secrets() -> None:
    """Neither a repr nor a name shows more than the host; what gives access is known by value."""
    config = read(
        f"notify:\n- webhook: 'https://hooks.example/services/{SECRET}?token={SECRET[::-1]}'\n"
        f"- apprise: ['slack://{SECRET}/{SECRET[::-1]}', 'mailto://user:{SECRET}@mail.example']\n"
    )
    shown = repr(config) + "".join(one.name for one in config.notify)
    assert SECRET not in shown
    assert SECRET[::-1] not in shown
    assert "webhook (hooks.example)" in shown
    assert {SECRET, SECRET[::-1]} <= secrets_of(config)
    assert "services" not in secrets_of(config), "a word of every log"


def test_common_words_stay_readable() -> None:
    """A topic with the program's or a folder's name does not take that out of every message."""
    config = loads(
        BASE.replace("name: f", "name: holiday-photos")
        + "notify: [{ntfy: 'https://n.example/venice-watch'}, {ping: 'https://n/holiday-photos'}]",
        Path("/x/c.yaml"),
        {},
    )
    assert secrets_of(config) == {"https://n.example/venice-watch", "https://n/holiday-photos"}


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:8765", Listen(host="127.0.0.1", port=8765)),
        ("'[::1]:80'", Listen(host="::1", port=80)),
        ("localhost:0", Listen(host="localhost", port=0)),
    ],
)
def test_where_it_listens(text: str, listen: Listen) -> None:
    """Addresses of this machine need nothing else; they read as they are written."""
    found = read(f"web: {{listen: {text}}}\n").web.listen
    assert found == listen
    assert str(found) == text.strip("'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen: 0.0.0.0:8765", "needs a `token_file`"),
        ("listen: '[::]:8765'", "needs a `token_file`"),
        ("listen: 192.168.1.2:8765", "needs a `token_file`"),
        ("listen: 8765", "must be an IP address"),
        ("listen: '::1:80'", "must be an IP address"),
        ("listen: '127.0.0.1:65536'", "must be an IP address"),
        ("listen: 'example.org:80'", "must be an IP address"),
        ("hosts: ['a/b']", "must be host names"),
    ],
)
def test_web_refused(text: str, words: str) -> None:
    """An address that others reach needs a token, and must be one."""
    with pytest.raises(ConfigError, match=words):
        read(f"web: {{{text}}}\n")


def test_with_a_token_the_network_may_ask() -> None:
    """A token_file opens it to others."""
    assert read("web: {listen: '0.0.0.0:1', token_file: t}\n").web.token_file == Path("/x/t")


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("web: {listen: '127.0.0.1:1'}\n", "web"),
        ("notify: [{apprise: 'json://localhost'}]\n", "notify"),
    ],
)
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, text: str, extra: str) -> None:
    """What is not installed is named with the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert f"pip install 'venice-watch[{extra}]'" in str(caught.value)
