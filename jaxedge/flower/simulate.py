"""A run on Flower's own engine, in this process: no network, no certificates.

Server and clients are those of a deployment, so that this is a rehearsal of
one; `jaxedge run` computes the same rounds, without Flower, far faster.
"""

from collections.abc import Mapping
import os
from pathlib import Path

from jaxedge import data
from jaxedge.core import checks
from jaxedge.flower import client_app, examples, server_app, task
from jaxedge.run import workdir


def execute(
    found: task.Task,
    splits: Mapping[str, data.Source],
    folder: Path,
    timeout: float,
) -> Path:
    """Runs a task on Flower's engine; arguments are those of `deploy.execute`.

    Raises:
        UsageError: for a folder of another run, or without the engine, or
            a run that failed.
    """
    os.environ |= {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "FLWR_HOME": str(folder / "flower" / "home"),
    }
    try:
        from flwr.simulation import run_simulation
        import ray  # noqa: F401 - Flower ends the process where it is missing
    except ImportError:
        raise checks.UsageError(
            "--simulate needs Flower's engine; install it with"
            " pip install 'jaxedge[flower]'."
        ) from None
    server = folder / "server"
    workdir.check(server, found.config, study=False)
    for client in range(len(found.names)):
        own = folder / "clients" / str(client) / "examples"
        examples.write(splits, client, own)
    text = task.write(found)
    given = {"task": text, "timeout": timeout}
    run_simulation(
        server_app.make(given | {"folder": str(server)}),
        client_app.make(given | {"folder": str(folder)}),
        num_supernodes=len(found.names),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    if not (server / server_app.SUMMARY).exists():
        raise checks.UsageError(
            "the run ended before its last round; see what it said above."
        )
    return server
