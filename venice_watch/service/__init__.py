"""What surrounds the daemon: its log, and its word with systemd."""
