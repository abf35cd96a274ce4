"""The engine for a ksqlDB server and its Kafka cluster; the server keeps the state of the assets.

Read `topology` (the streams and tables) first, then `http`, `answers` and `server` (the client of the REST API), then
`tables` and `engine`.
"""
