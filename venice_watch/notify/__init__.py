"""Telling people and monitors: what a notice looks like on its way, and how it gets there.

`post` sends one message, `courier` sees that it arrives, `pulse` pings a dead man's switch. Nothing
here knows what goes on in the program, and nothing here is ever waited for by its work.
"""
