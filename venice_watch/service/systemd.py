"""A word with systemd over its notification socket; silent where there is none."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

CREDENTIAL = "venice-api-key"  # LoadCredential=venice-api-key:/etc/venice-watch/key


class Notifier:
    """Sends sd_notify messages; see sd_notify(3)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # a leading @ stands for the abstract name space
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = self._read_watchdog_s(environment)

    @staticmethod
    def _read_watchdog_s(environment: Mapping[str, str]) -> float | None:
        """Return how often systemd wants a ping at least, halved to be in time."""
        if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        text = environment.get("WATCHDOG_USEC", "")
        given = text.isascii() and text.isdecimal() and int(text) > 0
        return int(text) / 2_000_000 if given else None

    @property
    def listening(self) -> bool:
        """Tell whether there is anybody to tell."""
        return bool(self._address)

    def send(self, **variables: str | int) -> None:
        """Send variables such as READY=1 or STATUS=text; a socket that is away is no error."""
        if not self._address:
            return
        lines = (f"{name}={value}".replace("\n", " ") for name, value in variables.items())
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.connect(self._address)
            notify.sendall("\n".join(lines).encode(errors="backslashreplace"))

    def reloading(self) -> None:
        """Say that the configuration is being read anew; READY=1 says that it was."""
        # systemd 253 and later want the moment, to tell this reload from an earlier one
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self.send(RELOADING=1, MONOTONIC_USEC=usec)
