"""Registration as the tools that deploy apps do it, under the path from which code for OpenFactory imports it."""

from openfactory.utils.registering import deregister_asset, register_asset

__all__ = ["deregister_asset", "register_asset"]
