"""FastAPI apps in a process of their own."""

from __future__ import annotations

import pytest

from running_apps import StartApp, start_app

__all__ = ["StartApp", "start_app"]

pytest.register_assert_rewrite("web_promises", "web_files_promises", "web_lifecycle_promises")
