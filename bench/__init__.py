"""Benchmarks: what the daemon costs and how it compares, measured and printed, never gated on time.

Rules: everything that is compared is measured in one run on one machine; what is told is ratios.
The programs run as their users run them, as processes of their own against the simulator as one of
its own. Figures are dicts whose names end with their unit.
"""
