"""Runs `ofa` with sessions of a few seconds: `short_sessions.py SECONDS ARGUMENTS…`, for the group of the keepers."""

from __future__ import annotations

import sys

from openfactory.apps.cli import main
from openfactory.engines.kafka_engine import keeper_session

keeper_session._SESSION_SECONDS = float(sys.argv.pop(1))
main()
