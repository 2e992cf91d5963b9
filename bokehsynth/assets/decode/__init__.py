"""Decode picture files of strangers to linear light, or name the reason why not."""
