"""An app that notes its writes, and each start of a method, in a file: `recorded_app.py RECORD [PAUSE]`."""

from __future__ import annotations

import asyncio
import sys
import time

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.exceptions import OpenFactoryError
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting
from recording import LIFE, Notes, follow_clock

follow_clock()
note = Notes(sys.argv[1])
pause = float(sys.argv[2]) if len(sys.argv) > 2 else 0.003


class Cell(OpenFactoryApp):
    last = EventAttribute(value="", tag="Last")
    counted = EventAttribute(value=0, tag="Counted")

    @ofa_method()
    def work(self, token: str, milliseconds: float) -> str:
        note(ran=token)
        note(wrote=token, asset=self.asset_uuid, attribute="last")
        self.last = token
        time.sleep(milliseconds / 1000)
        return f"done {token}"

    @ofa_method()
    async def rest(self, token: str, milliseconds: float) -> str:
        note(ran=token)
        await asyncio.sleep(milliseconds / 1000)
        return f"done {token}"

    @ofa_method()
    def fail(self, token: str) -> None:
        note(ran=token)
        raise ValueError(token)

    def main_loop(self) -> None:
        print("running", flush=True)
        for number in range(10**9):
            value, where = f"{LIFE}-{number}", {"asset": self.asset_uuid, "attribute": "counted"}
            note(wrote=value, **where)
            try:
                self.counted = value
                self.flush()
            except OpenFactoryError as error:
                note(failed=value, error=f"{type(error).__name__}: {error}"[:300], **where)
            else:
                note(acknowledged=value, **where)
            time.sleep(pause)


Cell(KSQLDBClient(setting("KSQLDB_URL") or "")).run()
