"""Data contracts: reviewed rules on what one stage hands to the next.

A hand-over is a stage's finished files. Tables are made of them (``tables``, ``splits``,
``recommendations``), the rules of its ``contract`` (data_contracts/) are counted in polars
(``row_rules``), Great Expectations judges the counts (``expectations``), and every validation is
added to the Data Docs (``page``) before a critical failure is raised.

The log is counted once, into its ``profile``: the contract of the interactions reads it, and
``drift``, a hand-over like the others, compares it with that of the last run in the ``accepted``.

Great Expectations takes seconds to import, so that happens at the first validation; what it
reads when it is imported is set here.
"""

from bigel.contracts.accepted import accept, needed_profiles
from bigel.contracts.contract import HANDOVERS
from bigel.contracts.drift import measure_drift
from bigel.contracts.profile import profile_log
from bigel.contracts.validation import broken, holds, validate
from bigel.quiet import hush

__all__ = [
    "HANDOVERS", "accept", "broken", "holds", "measure_drift", "needed_profiles", "profile_log",
    "validate",
]  # fmt: skip

hush()
