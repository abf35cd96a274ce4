"""The engine for Kafka without ksqlDB, and the base class of all engines on Kafka.

Read `connection`, `delivery` (writing), `log_reader` and `log_feed` (reading), `fold` and `tables` (the state computed
from the log), then `log_engine` (the base class) and `engine`. `state_keeper` writes a topic from which a start reads:
`state_records` (the format), `state_fold`, `state_writer` and `keeper_session` (writing), `kept_state` (reading).
"""
