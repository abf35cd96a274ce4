"""An app that writes without a pause."""

from openfactory.apps import OpenFactoryApp, SampleAttribute
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting


class Mill(OpenFactoryApp):
    load = SampleAttribute(value=0, tag="Spindle.Load")

    def main_loop(self) -> None:
        load = 0
        while True:
            load += 1
            self.load = load
            if not load % 20:
                self.flush()


Mill(KSQLDBClient(setting("KSQLDB_URL") or "")).run()
