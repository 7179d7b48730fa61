"""Data contracts: reviewed expectation suites on what one stage hands to the next.

A hand-over is a stage's finished files. Small tables are made of them (``tables``, ``lists``),
each has a suite (``suites``, data_contracts/), Great Expectations judges (``engine``), and every
validation is added to the Data Docs (``docs``) before a critical failure is raised.

Drift is a hand-over like the others: ``profiling`` counts a run, ``drift`` compares it with the
last run of the ``history``, and its contract judges the differences.

Great Expectations takes seconds to import, so that happens at the first validation; what it
reads when it is imported is set here.
"""

import logging
import os

from bigel.contracts.drift import measure_drift
from bigel.contracts.history import accept, needed_profiles
from bigel.contracts.profiling import profile_log
from bigel.contracts.suites import HANDOVERS
from bigel.contracts.validation import validate

__all__ = ["HANDOVERS", "accept", "measure_drift", "needed_profiles", "profile_log", "validate"]

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
logging.getLogger("great_expectations").setLevel(logging.CRITICAL)  # it logs hundreds of lines
