"""The parts that apps with web pages have in common, on whatever framework: `openfactory.flaskapp` and `fastapiapp`.

Start with `app`, the base class. `listener` opens the port, `pages` has the pages for operations, `health` and
`metrics` their content, `streams` and `event_messages` the streams of live pages.
"""
