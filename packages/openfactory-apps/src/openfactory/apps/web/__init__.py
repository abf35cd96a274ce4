"""The parts that apps with web pages have in common, on whatever framework: `openfactory.flaskapp` and `fastapiapp`.

Start with `app`, the base class. `forwarded` checks the headers of a gateway, and `request_log` logs the requests.
`streams` and `event_messages` are for live pages, and `stored_files` for files of the storage. The pages for operations
are in `openfactory.apps.operations`.
"""
