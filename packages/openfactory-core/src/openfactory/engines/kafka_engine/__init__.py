"""The engine on a bare Kafka, and what every engine on a Kafka shares.

Read `connection`, `delivery` (writing), `log_reader` and `log_feed` (reading), `fold` and `tables` (the state that the
log adds up to), then `log_engine` (shared by the engines) and `engine`.
"""
