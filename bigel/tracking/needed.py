"""What registered models and runs that wait in the outbox were made of."""

from bigel.store import Workspace
from bigel.tracking import outbox
from bigel.tracking.champion import seen_bundles
from bigel.tracking.homes import check_home
from bigel.tracking.lookup import tags_of_run
from bigel.tracking.store import home_of
from bigel.tracking.tags import BUNDLE_TAG

PARENT_TAGS = ("bigel.split", "bigel.train")


def needed_fingerprints(workspace: Workspace) -> set[str]:
    """Return the fingerprints of stage outputs that must stay.

    Those are what any registered version was made of, the bundles of the champions last seen,
    and what the outbox refers to.

    Args:
        workspace: holds the registry, unless the environment says otherwise.

    Raises:
        WorkspaceError: if the registry cannot be asked, is another than that where this
            workspace registered, or an entry of the outbox is damaged.
    """
    home = home_of(workspace)
    check_home(home, workspace)
    kept = outbox.needed(workspace) | seen_bundles(workspace)
    if not home.exists():
        return kept
    with home.explained():
        client = home.connect()
        versions = client.search_model_versions()
        found = kept | {version.tags.get(BUNDLE_TAG, "") for version in versions}
        for run_id in {version.run_id for version in versions if version.run_id}:
            tags = tags_of_run(client, run_id)  # none: the bundle's manifest names its parents
            found |= {tags.get(name, "") for name in PARENT_TAGS}
    return found - {""}
