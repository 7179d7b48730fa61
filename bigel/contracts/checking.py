"""A check of the contracts without running the pipeline: the suites, then the log."""

from typing import Any

from bigel.config import Config
from bigel.contracts import suites
from bigel.contracts.drift import measure_drift
from bigel.contracts.profiling import profile_log
from bigel.contracts.suites import HANDOVERS
from bigel.contracts.validation import validate
from bigel.errors import ContractError
from bigel.store import Record, Workspace


def check_suites(config: Config) -> dict[str, dict[str, str]]:
    """Read every suite and every threshold, and let Great Expectations build each expectation.

    Returns:
        hand-over to ``version`` and ``digest`` of its contract.

    Raises:
        ConfigError: naming the file that is missing or wrong.
    """
    from bigel.contracts.engine import build_suite

    folder = suites.suite_folder(config.contracts.folder)
    found = {}
    for handover in HANDOVERS:
        wanted = suites.load_suites(folder, handover)
        for suite in wanted.values():
            build_suite(suite, list(enumerate(suite.expectations)))
        found[handover] = suites.contract_of(wanted, suites.load_thresholds(folder, handover))
    return found


def check_log(ingested: Record, config: Config, workspace: Workspace) -> list[dict[str, Any]]:
    """Judge the raw log, the interactions and the drift; a broken contract does not stop the next.

    Returns:
        the results of ``validate``, also of broken contracts.
    """
    results = [_result("raw_log", ingested, config, workspace)]
    results.append(_result("interactions", ingested, config, workspace))
    drifted = measure_drift(profile_log(ingested, config, workspace), config, workspace)
    return [*results, _result("drift", drifted, config, workspace)]


def _result(handover: str, record: Record, config: Config, workspace: Workspace) -> dict[str, Any]:
    try:
        return validate(handover, record, config, workspace)
    except ContractError as error:
        assert error.result is not None
        return error.result
