"""The app that `flwr run` sends to a SuperLink: a config and two names.

The code of server and clients is the jaxedge that is installed where they run:
the bundle has no dependencies, so that nothing is fetched when it starts.
"""

from collections.abc import Mapping
import json
from pathlib import Path

_TEMPLATE = """\
[project]
name = "jaxedge-federated"
version = "1.0.0"
description = "Rounds of clients that keep their data"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "jaxedge"

[tool.flwr.app.components]
serverapp = "jaxedge.flower.server_app:app"
clientapp = "jaxedge.flower.client_app:app"

[tool.flwr.app.config]
"""


def write(folder: Path, settings: Mapping[str, str | int | float]) -> None:
    """Writes the app into a folder.

    Args:
        folder: is made if need be.
        settings: the run config, see `server_app`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A JSON string is a TOML string too, as long as it is ASCII.
    lines = [f"{name} = {json.dumps(v)}" for name, v in settings.items()]
    text = _TEMPLATE + "\n".join(lines) + "\n"
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
