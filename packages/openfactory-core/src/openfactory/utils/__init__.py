"""Registration of assets, under the path from which deployment tools import it."""

from openfactory.utils.registering import deregister_asset, register_asset

__all__ = ["deregister_asset", "register_asset"]
