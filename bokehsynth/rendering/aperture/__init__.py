"""Tables made from an `Aperture`: lens points, outline, footprint kernels, pupils."""
