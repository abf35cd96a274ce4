"""Registration of assets and of the connectors of devices, under the path from which deployment tools import it."""

from openfactory.utils.device_connectors import deregister_device_connector, register_device_connector
from openfactory.utils.registering import deregister_asset, register_asset

__all__ = ["deregister_asset", "deregister_device_connector", "register_asset", "register_device_connector"]
