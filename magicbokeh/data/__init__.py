"""Batches for training: sources of samples, augmentation, the loader."""
