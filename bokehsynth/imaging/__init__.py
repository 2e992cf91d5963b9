"""Pictures in general, without recipes and lenses: profiles, files, contact sheets, metrics, registration."""
