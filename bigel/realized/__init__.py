"""Realized quality: what users did after lists were published, and how right the lists were.

``rule`` ranks what is popular lately, as of the log's end; ``published`` notes which lists were
published when; on the next log ``stage`` scores those lists and the rule on the pairs that are new
since (``scoring``).
"""

from bigel.realized.published import all_nights, needed_lists, note_lists
from bigel.realized.rule import rank_recent
from bigel.realized.stage import measure_realized

__all__ = ["all_nights", "measure_realized", "needed_lists", "note_lists", "rank_recent"]
