"""The web server: what others may ask over HTTP, and how much of that at a time.

`server` has the sockets and their limits, `guard` who may ask, `monitor` what monitoring asks. What
is told comes in as callables: nothing here knows the daemon. Nothing is imported without the extra.
"""
