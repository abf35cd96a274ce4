"""The services in processes of their own."""

from running_services import start_service

__all__ = ["start_service"]
