import logging
import os
from pathlib import Path

import pytest

LEVEL = logging.getLogger("bigel").level


@pytest.fixture(autouse=True)
def level_of_our_log() -> None:
    """Put back the level, which a flow sets, in a fixture too: no test sees another's lines."""
    logging.getLogger("bigel").setLevel(LEVEL)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the public research logs, see its README.md; mark such tests real_data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    place = Path(os.environ.get("BIGEL_REAL_DATA") or beside)
    if not place.is_dir():
        pytest.skip(
            f"no real data at {place}; set BIGEL_REAL_DATA to a folder with jd/ and taobao/"
        )
    return place
