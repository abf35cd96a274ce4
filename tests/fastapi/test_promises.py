"""The promises of apps with web pages, on FastAPI."""

from __future__ import annotations

from fastapi_site import FASTAPI
from web_files_promises import FilePromises
from web_lifecycle_promises import LifecyclePromises, StreamPromises
from web_promises import GatewayPromises, HealthPromises, MetricsPromises, RunPromises


class TestHealth(HealthPromises):
    framework = FASTAPI


class TestMetrics(MetricsPromises):
    framework = FASTAPI


class TestGateway(GatewayPromises):
    framework = FASTAPI


class TestRun(RunPromises):
    framework = FASTAPI


class TestLifecycle(LifecyclePromises):
    framework = FASTAPI


class TestStreams(StreamPromises):
    framework = FASTAPI


class TestFiles(FilePromises):
    framework = FASTAPI
