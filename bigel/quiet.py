"""What other libraries read when they are imported: no calls home, no bars, no chatter.

A value that the user set wins.
"""

import logging
import os

DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a mistyped server costs 14 s instead of minutes
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
LEVELS = {"alembic": logging.WARNING, "great_expectations": logging.CRITICAL}  # hundreds of lines


def hush() -> None:
    """Set each default that the environment does not have yet; call it before the imports."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
