"""The command ``bigel``, also as ``python -m bigel``.

Nothing of the user's own stands in its way: neither a module or folder ``flows`` on the path, nor a
PYTHONWARNINGS that makes errors of the warnings of libraries.

Where ``torchrun`` starts it several times, the first process does what the command line says, and
the others train with it.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

HOME = Path(__file__).parents[1]


def main() -> None:
    """Run the command line of ``flows.cli``, the one that lies beside this package."""
    if "error" in os.environ.get("PYTHONWARNINGS", ""):
        del os.environ["PYTHONWARNINGS"]
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    found = importlib.util.find_spec("flows")
    if found is None or str(HOME / "flows") not in (found.submodule_search_locations or ()):
        sys.path.insert(0, str(HOME))
    importlib.import_module("flows.environment").set_defaults()
    if not os.environ.get("TORCHELASTIC_RUN_ID"):
        importlib.import_module("flows.cli").main()
        return
    ranks = importlib.import_module("bigel.train.ranks")  # torch takes seconds to import
    if int(os.environ["RANK"]):
        ranks.main()
        return
    try:
        importlib.import_module("flows.cli").main()
    finally:
        ranks.dismiss()


if __name__ == "__main__":
    main()
