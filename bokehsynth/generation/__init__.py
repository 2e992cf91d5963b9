"""What a run needs besides an engine: which shards there are, how one is made, and what is remembered on disk.

`plan` says which shards a data set has; `maker` is the task that makes one; `trail` remembers who died over which
sample, `quarantine` what was given up for good, `journal` what happened when; `room` asks whether the disk suffices.
"""
