"""`magicbokeh demo`: a page on this computer on which to try the model, and one that asks which method is best."""
