"""A word with systemd over its notification socket; silent where there is none."""

import contextlib
import os
import socket
from collections.abc import Mapping


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

    def send(self, **variables: str | int) -> None:
        """Send variables such as READY=1 or STATUS=text; a socket that is away is no error."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in variables.items())
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.connect(self._address)
            notify.sendall(text.encode())
