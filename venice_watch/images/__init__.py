"""Pixels: what a file holds, whether it is whole, what is sent of it, and whether the answer is.

Everything here is synchronous and works on bytes it is given; callers run it in threads.
"""
