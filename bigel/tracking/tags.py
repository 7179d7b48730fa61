"""The names of our tags on runs and model versions."""

BUNDLE_TAG = "bigel.bundle"  # fingerprint of the bundle: the identity of a version
DATA_TAG = "bigel.data"  # fingerprint of the data it was measured on
JUDGED_TAG = "bigel.judged"  # fingerprint of the evaluation that the gate judged it by
WORKSPACE_TAG = "bigel.workspace"  # what homes.py calls the workspace that made a run
MADE_TAG = "bigel.made"  # when the run ended that a version was last judged by, ISO, UTC
BEHAVIORS_TAG = "bigel.behaviors"
CONTRACTS_TAG = "bigel.contracts"  # JSON: hand-over to whether its contract passed
VERSIONS_TAG = "bigel.contract_versions"  # JSON: hand-over to version and digest of its contract
LOSES_TAG = "bigel.loses"  # of a version that did not beat popularity when it was last judged
WHY_TAG = "bigel.why"
DECISION_TAG = "bigel.decision"  # JSON: the last decision about a version, see promotion.py
COMMIT_TAG = "mlflow.source.git.commit"
