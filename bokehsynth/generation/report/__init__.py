"""The report on a data set: one HTML page with samples, distributions, assets, quarantine and how it was made.

`write` is the door. Numbers come from `record_numbers`, `side_files` and `event_log_facts`, pictures from
`sample_views` and `lens_spots`; `page_body` lays them out with `charts` and `markup`. Nothing that a set names is run.
"""
