"""Makes, grows, checks and replays data sets.

`generate` is the main path; `plan` decides which shards there are, `shard_task` makes one in a worker. `crash_log`
records what a worker was making when it died, `quarantine` the draws that are not used, `event_log` what happened when.
"""
