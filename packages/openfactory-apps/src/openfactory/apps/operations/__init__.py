"""The pages for operations, which apps with web pages have on their port, and each app on its operations port.

`pages` has the pages for operations, `health` and `metrics` their content; `request_counts` counts requests. `listener`
opens a port, and `server` serves the pages on the operations port.
"""
