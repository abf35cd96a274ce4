"""The engine on a Kafka beside a ksqlDB server, which keeps the state.

Read `topology` (the streams and tables), `http`, `answers` and `server` (the server's REST interface), then `tables`
and `engine`.
"""
