"""Measurements, run by hand: `python -m benchmarks.NAME`. Each checks correctness first and names the machine."""
