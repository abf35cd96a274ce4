"""The services of `hatch run demo --cluster`."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributions import ROOT
from servers import ServerFailedError


def test_a_service_that_does_not_start_has_its_name_and_its_log_in_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from factory_cluster import Service

    with pytest.raises(ServerFailedError, match=r"(?s)^ofa fanout router ended with status 1\..*No NATS cluster"):
        Service("router", tmp_path, {}).start()
