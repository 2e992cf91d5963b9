"""Photographs for scenes: decoding (`decode`), the frozen list of usable files (`index`), loading for use (`load`)."""
