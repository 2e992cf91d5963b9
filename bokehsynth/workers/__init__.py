"""Where and when work runs: an engine calls a picklable task for each spec and yields events.

An engine knows neither shards nor pixels. It retries a spec whose worker died, ends workers that time out, hands on
what a task raised, and stops cleanly on a signal. `pool` has the engine, `events` its contract with the caller,
`line_children` child commands for requests that need no task.
"""
