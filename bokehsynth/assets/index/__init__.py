"""Build the frozen asset list: discover files, measure them in child processes, split train from val."""
