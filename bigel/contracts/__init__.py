"""Data contracts: reviewed expectation suites on what one stage hands to the next.

A hand-over is a stage's finished files. Small tables are made of them (``tables``, ``lists``),
each has a suite (``suites``, data_contracts/), Great Expectations judges (``engine``), and every
validation is added to the Data Docs (``docs``) before a critical failure is raised.

Great Expectations takes seconds to import, so that happens at the first validation; what it
reads when it is imported is set here.
"""

import logging
import os

from bigel.contracts.validation import HANDOVERS, validate

__all__ = ["HANDOVERS", "validate"]

os.environ["GX_ANALYTICS_ENABLED"] = "false"
logging.getLogger("great_expectations").setLevel(logging.CRITICAL)  # it logs hundreds of lines
