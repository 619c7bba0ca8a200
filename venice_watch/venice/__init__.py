"""The Venice API: the only room that speaks HTTP to it, and what its answers mean."""
