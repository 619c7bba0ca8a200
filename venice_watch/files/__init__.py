"""Every byte this program puts on a disk for its user, and every move of one: fsync and rename.

Rules: a result, a report or an original appears under its name whole or not at all; nothing is
ever overwritten unless told to; whatever says "done" is on the disk before it says so. All
functions block: call them in a thread.
"""
