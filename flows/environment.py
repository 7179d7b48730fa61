"""What must stand in the environment before Prefect, MLflow, numpy, torch and others are imported.

Prefect reads ``prefect.toml`` from the exact working directory only, so nothing we rely on is
left to a file. A value that the user set wins.
"""

import os

from bigel import quiet

DEFAULTS = quiet.DEFAULTS | {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "bigel",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
    "OPENBLAS_NUM_THREADS": "1",  # numpy's products are short; lists of many users have our threads
    "OMP_WAIT_POLICY": "PASSIVE",  # a thread that waits for a core that others use sleeps
    "THP_MEM_ALLOC_ENABLE": "1",  # torch asks for pages of 2 MB where a tensor is larger
    "MKL_CBWR": "AUTO",  # products of matrices in one order, however busy the machine is
}

HERE = ("localhost", "127.0.0.1", "::1")


def set_defaults() -> None:
    """Set each default that the environment does not have yet; never ask a proxy for localhost."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in ("no_proxy", "NO_PROXY"):
        given = os.environ.get(name) or os.environ.get(name.swapcase(), "")
        hosts = [host.strip() for host in given.split(",") if host.strip()]
        os.environ[name] = "*" if "*" in hosts else ",".join(dict.fromkeys((*hosts, *HERE)))
