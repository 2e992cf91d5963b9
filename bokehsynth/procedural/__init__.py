"""The embedded pictures: one function per family, `draw_x(rng, size)`."""
