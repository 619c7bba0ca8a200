#!/bin/sh
# Healthy: a daemon holds the state folder, and answers when it is asked how things stand.
set -eu
venice-watch status --json | python3 -c '
import json, sys

facts = json.load(sys.stdin)
silent = [one["why"] for one in facts["troubles"] if one["subject"] == "daemon"]
if facts["running"] is None or silent:
    sys.exit(" ".join(silent) or "no daemon is running")
'
