"""Runs a state keeper until it is ended: `keeping.py URL SESSION_SECONDS`."""

from __future__ import annotations

import signal
import sys

from openfactory.engines.kafka_engine import keeper_session
from openfactory.engines.kafka_engine.state_keeper import StateKeeper

url, session_seconds = sys.argv[1:]
keeper_session._SESSION_SECONDS = float(session_seconds)
keeper = StateKeeper(url, flush_seconds=0.2)
signal.signal(signal.SIGTERM, lambda *_: keeper.stop())
print("keeping", flush=True)
keeper.run()
