import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The measuring material: the folder named by WORKBENCH_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("WORKBENCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"measuring material absent: {folder} (set WORKBENCH_DATA)")
    return folder
