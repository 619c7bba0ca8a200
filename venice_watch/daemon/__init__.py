"""The daemon: what it stands on (`state`) and how it lives (`life`)."""

from venice_watch.daemon.life import GRACE_S, Daemon
from venice_watch.daemon.report import Progress, Summary
from venice_watch.daemon.state import opened

__all__ = ["GRACE_S", "Daemon", "Progress", "Summary", "opened"]
