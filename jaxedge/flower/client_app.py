"""The ClientApp: a `site` that is asked by messages of Flower.

A SuperNode tells its app which client it is in its node config: `client`, the
number, and `folder`, where `examples/` lie and the client may write.
"""

from collections.abc import Mapping
import functools
from pathlib import Path
import time
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
import jax

from jaxedge.core import checks
from jaxedge.flower import messages, site


def make(fixed: Mapping[str, Any] | None = None) -> ClientApp:
    """The app.

    Args:
        fixed: the run's settings, where Flower's engine carries none: "task",
            and "folder", in which each client has one of its own.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        # Of a process that was started for this message all of it counts.
        before = 0.0 if fixed is None else time.process_time()
        own = _site(fixed, context)
        order = _order(own, message.content)
        answer = site.train(own, order)
        told: dict[str, Any] = {"client": own.client}
        told |= {"labelled": answer.labelled}
        told |= {"processor": time.process_time() - before}
        content: dict[str, Any] = {"told": ConfigRecord(told)}
        if answer.model is not None:
            content |= {
                "model": messages.pack(answer.model),
                "sums": messages.pack(answer.sums),
            }
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        own = _site(fixed, context)
        state = site.server_state(own, _order(own, message.content))
        content: dict[str, Any] = {}
        content["told"] = ConfigRecord({"client": own.client})
        asked: Any = message.content["asked"]
        for split in asked["splits"]:
            sums = site.evaluate(own, state, split)
            if sums is not None:
                content[split] = messages.pack(sums)
        return Message(RecordDict(content), reply_to=message)

    return app


def _site(fixed: Mapping[str, Any] | None, context: Context) -> site.Site:
    """The client that this node is."""
    node = context.node_config
    if fixed is not None:
        client = int(node["partition-id"])
        folder = Path(fixed["folder"], "clients", str(client))
        return _ready(fixed["task"], client, folder)
    for key in ("client", "folder"):
        if key not in node:
            raise checks.UsageError(
                f"this node's config has no {key!r}; start it with"
                " --node-config 'client=0 folder=\"...\"'."
            )
    folder = Path(str(node["folder"])).resolve()
    _keep_programs(folder)
    return _ready(str(context.run_config["task"]), int(node["client"]), folder)


@functools.lru_cache(maxsize=128)
def _ready(text: str, client: int, folder: Path) -> site.Site:
    """A client, whose programs serve all messages that this process gets."""
    return site.make(text, client, folder)


def _keep_programs(folder: Path) -> None:
    """Lets the next process find what this one compiles.

    A SuperNode answers every message in a process of its own.
    """
    config: Any = jax.config  # Whose type does not know its fields.
    if config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _order(own: site.Site, content: Any) -> site.Order:
    """What a message asks."""
    asked = content["asked"]
    model = messages.unpack(
        content["model"], own.start.fed.params, "the server's model"
    )
    return site.Order(
        run=str(asked["run"]),
        round=int(asked["round"]),
        accepted=int(asked["accepted"][own.client]),
        present=bool(asked["present"][own.client]),
        model=model,
        memory=messages.arrays(content["memory"]),
    )


app = make()
