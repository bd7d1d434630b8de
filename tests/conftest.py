"""Fixtures shared by the tests of the core."""

import os
from pathlib import Path

import pytest

from backdoor_core.contracts import Context


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(root=tmp_path)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the open data sets; tests that need it are skipped where it is absent."""
    folder = os.environ.get("BACKDOOR_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("BACKDOOR_TEST_DATA does not name a folder with the open data sets (docs/data.md)")
    return Path(folder).resolve()
