"""Load indexed pictures for a scene: foreground colours, highlights, photographed pairs, a cache."""
