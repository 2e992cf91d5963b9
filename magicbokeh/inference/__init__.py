"""Photographs in, photographs with shallow depth of field out."""
