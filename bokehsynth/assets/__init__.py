"""Pictures a scene is made of: the frozen list (`index`), reading them (`shelf`), the built-in ones (`embedded`)."""
