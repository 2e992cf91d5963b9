"""Where and when work runs: an engine calls a picklable task for each spec and yields events.

An engine knows neither shards nor pixels. It retries a spec whose worker died, ends workers that time out, hands on
what a task raised, and stops cleanly on a signal. `events` has its contract with the caller, `supervisor` all of that;
what an engine adds is a crew (`handle`): how workers are started, heard and ended. `pool` has that of this machine,
`ray_engine` that of a Ray cluster. `line_children` runs child commands for requests that need no task.
"""
