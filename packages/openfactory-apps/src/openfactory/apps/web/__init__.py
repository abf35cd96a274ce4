"""The parts that apps with web pages have in common, on whatever framework: `openfactory.flaskapp` and `fastapiapp`.

Start with `app`, the base class. `listener` opens the port, and `forwarded` checks the headers of a gateway. `pages`
has the pages for operations, `health` and `metrics` their content; `request_counts` counts the requests, and
`request_log` logs them. `streams` and `event_messages` are for live pages, and `stored_files` for files of the storage.
"""
