"""bokehsynth."""
