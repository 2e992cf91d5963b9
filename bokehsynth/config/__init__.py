"""How recipes are written: strict YAML, pydantic models, distributions."""
