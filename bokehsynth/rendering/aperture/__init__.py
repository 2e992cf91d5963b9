"""From an `Aperture` to tables: lens points, outline, footprint kernels, pupils."""
