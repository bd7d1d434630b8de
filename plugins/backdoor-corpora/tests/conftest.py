import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("BACKDOOR_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("BACKDOOR_TEST_DATA does not name a folder with the open data sets (docs/data.md)")
    return Path(folder).resolve()
