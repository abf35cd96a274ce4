"""Deletion of the topics of a test: a broker with thousands of topics answers slowly."""

from __future__ import annotations

from functools import cache

from confluent_kafka.admin import AdminClient

__all__ = ["delete_topics"]


def delete_topics(bootstrap_servers: str, prefix: str) -> None:
    """Delete the topics with a prefix, and return before the broker has done it."""
    admin = _admin(bootstrap_servers)
    topics = [name for name in admin.list_topics(timeout=60).topics if name.startswith(prefix)]
    if topics:
        admin.delete_topics(topics)


@cache
def _admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
