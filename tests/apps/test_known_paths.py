"""The names that existing apps import are at their paths, with the purpose that they have there."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from uuid import uuid4

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.commands import CommandReply
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually

pytestmark = pytest.mark.smoke

NAMES = {
    "openfactory.apps": "AttributeField EventAttribute OpenFactoryApp SampleAttribute ofa_method",
    "openfactory.apps.attributefield": "AttributeField EventAttribute SampleAttribute",
    "openfactory.apps.ofaapp": "OpenFactoryApp",
    "openfactory.assets": "Asset AssetAttribute AssetUNS",
    "openfactory.assets.utils": "AssetAttribute current_timestamp openfactory_timestamp",
    "openfactory.assets.utils.time_methods": "current_timestamp openfactory_timestamp",
    "openfactory.config": "ASSET_ROUTER_URL DEPLOYMENT_PLATFORM KAFKA_BROKER KSQLDB_URL OPENFACTORY_BASE_DOMAIN",
    "openfactory.exceptions": "OFAConfigurationException OFAException",
    "openfactory.kafka": "AssetProducer CaseInsensitiveDict KSQLDBClient KafkaAssetConsumer KafkaAssetUNSConsumer",
    "openfactory.kafka.ksql": "KSQLDBClient KSQLDBClientException",
    "openfactory.schemas.command_header": "CommandEnvelope CommandHeader",
    "openfactory.utils": "deregister_asset deregister_device_connector register_asset register_device_connector",
}


@pytest.mark.parametrize("module", NAMES)
def test_existing_imports_work(module: str) -> None:
    loaded = import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(loaded, name)] == []


def test_the_same_class_is_at_both_paths() -> None:
    from openfactory.apps import attributefield, attributes

    assert attributefield.EventAttribute is attributes.EventAttribute


def test_a_setting_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import openfactory.config as config

    for name in ("KSQLDB_URL", "KAFKA_BROKER", "ASSET_ROUTER_URL", "DEPLOYMENT_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    assert (config.KSQLDB_URL, config.DEPLOYMENT_PLATFORM) == (None, "swarm")
    monkeypatch.setenv("KSQLDB_URL", "memory://config")
    monkeypatch.setenv("KAFKA_BROKER", "")  # an empty variable counts as unset
    assert (config.KSQLDB_URL, config.KAFKA_BROKER) == ("memory://config", None)
    with pytest.raises(AttributeError, match="has no setting 'KSQLDB'"):
        config.KSQLDB  # noqa: B018


def test_a_command_is_written_and_read_as_existing_code_does(url: str) -> None:
    from openfactory.assets import Asset, AssetAttribute
    from openfactory.schemas.command_header import CommandEnvelope, CommandHeader

    class Scale(OpenFactoryApp):
        @ofa_method()
        def weigh(self, grams: int) -> int:
            return grams + 1

    header = CommandHeader(correlation_id=uuid4(), sender_uuid="TEST-HMI", timestamp=datetime.now(UTC), signature=None)
    envelope = CommandEnvelope(header=header, arguments={"grams": "4"})
    text = envelope.model_dump_json()
    assert CommandEnvelope.model_validate_json(text) == envelope
    scale = Scale(KSQLDBClient(url), app_uuid="SCALE")
    with scale, Asset("SCALE", KSQLDBClient(url)) as seen:
        seen.add_attribute(AssetAttribute(id="weigh_CMD", value=text, type="OpenFactory", tag="Method.Command"))
        eventually(lambda: "weigh_REPLY" in seen)
        reply = CommandReply.parse(seen["weigh_REPLY"].value)
        assert (reply.correlation_id, reply.result) == (header.correlation_id, 5)


def test_arguments_of_a_command_are_text() -> None:
    from openfactory.schemas.command_header import CommandEnvelope, CommandHeader

    with pytest.raises(ValueError, match="Expected `str`"):
        CommandEnvelope(
            header=CommandHeader(correlation_id=uuid4(), sender_uuid="HMI"),
            arguments={"x": 1},  # type: ignore[dict-item]
        )
