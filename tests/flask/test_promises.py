"""The promises of apps with web pages, on Flask."""

from __future__ import annotations

from flask_site import FLASK
from web_files_promises import FilePromises
from web_lifecycle_promises import LifecyclePromises, StreamPromises
from web_promises import GatewayPromises, HealthPromises, MetricsPromises, RunPromises


class TestHealth(HealthPromises):
    framework = FLASK


class TestMetrics(MetricsPromises):
    framework = FLASK


class TestGateway(GatewayPromises):
    framework = FLASK


class TestRun(RunPromises):
    framework = FLASK


class TestLifecycle(LifecyclePromises):
    framework = FLASK


class TestStreams(StreamPromises):
    framework = FLASK


class TestFiles(FilePromises):
    framework = FLASK
