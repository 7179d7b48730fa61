from bigel.tracking import needed_fingerprints
from bigel.workspace import Workspace
from tests import fabricate


def test_a_registry_that_is_not_there_needs_nothing(tmp_path):
    assert needed_fingerprints(Workspace(tmp_path)) == set()


def test_a_registered_version_needs_its_bundle_split_and_training(tmp_path):
    workspace = fabricate.workspace_at(tmp_path)
    record = fabricate.register_one(workspace)
    stages = {path.parent.name: path.name for path in workspace.artifacts.glob("stages/*/*")}
    assert needed_fingerprints(workspace) == {
        record.fingerprint, stages["split"], stages["train"],
    }  # fmt: skip
