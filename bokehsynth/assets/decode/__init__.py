"""Decode untrusted picture files to linear light, or reject them with a reason."""
