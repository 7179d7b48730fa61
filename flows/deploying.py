"""`bigel deploy`: what ``prefect.yaml`` names, on a server, one run per workspace at a time.

Several deployments share a workspace, so a limit of each would not do. All runs of a workspace go
through one work queue, whose limit is one: the next run waits on the server, and no process
waits with it.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from bigel.errors import BigelError, ConfigError
from bigel.store import Workspace, write_text
from flows.server import check_api

DEFAULT_QUEUE = "default"  # Prefect's name
DEFAULT_FILE = Path("prefect.yaml")
SHIPPED = Path(__file__).with_name("prefect.yaml")
log = logging.getLogger("bigel.deploy")
Queue = tuple[str, str]  # pool and queue

File = Annotated[
    Path,
    typer.Option(
        "--file",
        help="The deployments; without a file of this name, those of bigel.",
        dir_okay=False,
    ),
]


def deploy(file: File = DEFAULT_FILE) -> None:
    """Deploy to the Prefect server of PREFECT_API_URL; one run per workspace at a time.

    Makes the work pools and queues that the file names, each queue with a limit of one run.

    Example: PREFECT_API_URL=http://127.0.0.1:4200/api bigel deploy
    """
    log.info("bigel deploy %s: begins; Prefect takes some seconds to import", file)
    from prefect.settings import get_current_settings

    api = get_current_settings().api.url
    if not api:
        raise ConfigError("no Prefect server: set PREFECT_API_URL, or start one by `bigel serve`")
    check_api(str(api))
    deploy_file(deployments(file), str(api))


def deployments(file: Path = DEFAULT_FILE) -> Path:
    """Return the file, or the one that comes with bigel where the default is not there."""
    return SHIPPED if file == DEFAULT_FILE and not file.exists() else file


def write_own(workspace: Workspace) -> Path:
    """Write the deployments that come with bigel, for a workspace, into it; return the file."""
    tree = yaml.safe_load(SHIPPED.read_text("utf-8"))
    for one in tree["deployments"]:
        one["parameters"]["workspace"] = str(workspace.root)
    file = workspace.artifacts / "prefect" / DEFAULT_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, yaml.safe_dump(tree, sort_keys=False))
    log.info(
        "no %s here: deploying those that come with bigel, of the demo log; to run your own, copy "
        "%s here, name your settings as its source, and start again", DEFAULT_FILE, file,
    )  # fmt: skip
    return file


def deploy_file(file: Path, api: str) -> None:
    """Make pools and queues, then deploy all of a file.

    Raises:
        ConfigError: if the file cannot be read, or lets runs of a workspace overlap.
        BigelError: if Prefect refuses.
    """
    queues = queues_of(file)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}):
        for pool, queue in sorted(queues):
            _limit(pool, queue)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = os.environ | {"PREFECT_API_URL": api}
    done = subprocess.run(
        [*command, "--prefect-file", str(file)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise BigelError(f"prefect deploy refused {file}: {done.stderr or done.stdout}")
    for pool, queue in sorted(queues):
        log.info("deployed %s to the queue %s of the pool %s, one run at a time", file, queue, pool)


def queues_of(file: Path) -> set[Queue]:
    """Return the queues that a file's deployments use.

    Raises:
        ConfigError: if it cannot be read, or two deployments of a workspace have two queues.
    """
    first: dict[Path, tuple[str, Queue]] = {}
    for name, workspace, queue in _placed(file):
        other, expected = first.setdefault(workspace, (name, queue))
        if queue != expected:
            raise ConfigError(
                f"{file}: {other} and {name} share the workspace {workspace}, but not a queue "
                f"({'/'.join(expected)} and {'/'.join(queue)}), so their runs could overlap; give "
                "both the same work_pool"
            )
    return {queue for _, queue in first.values()}


def check_workspace(file: Path, served: Path) -> None:
    """Refuse a file whose runs would not be in the workspace that is served.

    Raises:
        ConfigError: naming a deployment of another workspace, or if the file cannot be read.
    """
    for name, workspace, _ in _placed(file):
        if workspace != served:
            raise ConfigError(
                f"{file}: {name} runs in the workspace {workspace}, but {served} is served; name "
                "the same one in its parameters and by --workspace, or serve with --no-deploy"
            )


def _placed(file: Path) -> list[tuple[str, Path, Queue]]:
    """Return name, workspace and queue of each deployment."""
    try:
        deployments = yaml.safe_load(file.read_text("utf-8"))["deployments"]
        return [(one["name"], _workspace(one), _queue(one)) for one in deployments]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{file} cannot be read as Prefect's deployments: {type(error).__name__}: {error}"
        ) from error


def _workspace(deployment: dict[str, Any]) -> Path:
    return Path((deployment.get("parameters") or {}).get("workspace", ".")).resolve()


def _queue(deployment: dict[str, Any]) -> Queue:
    pool = deployment["work_pool"]
    return pool["name"], pool.get("work_queue_name") or DEFAULT_QUEUE


def _limit(pool: str, queue: str) -> None:
    """Make a pool and a queue of it with one slot, or give an existing queue one slot."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        except ObjectAlreadyExists:
            log.debug("the pool %s is there", pool)
        try:
            client.create_work_queue(queue, concurrency_limit=1, work_pool_name=pool)
        except ObjectAlreadyExists:
            known = client.read_work_queue_by_name(queue, work_pool_name=pool)
            client.update_work_queue(known.id, concurrency_limit=1)
