"""The trainer: stages, phases, checkpoints, validation."""
