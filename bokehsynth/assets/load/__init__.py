"""Load indexed pictures for scenes: foreground colours, highlights, photographed pairs, an LRU cache."""
