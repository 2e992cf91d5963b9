"""The CPU ray tracer of height fields."""
