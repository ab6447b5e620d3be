"""FoodWise under load: reads, writes that none is lost of, graded photos.

    .venv/bin/python scripts/bench/foodwise_load.py [--seconds=30]
        [--database=sqlite|postgresql] [--users=200] [--think=10]
        [--grader=train|none]

Without --database both are measured: SQLite with 200 persons, and PostgreSQL,
where it is installed, with 1,000 who think for 30 s, and no network. A server
of its own (`jaxedge foodwise serve`, a process, one worker) holds the made-up
campaign; so many persons are logged in, each of whom asks for a page, waits for
the answer, and thinks for `--think` seconds on average (exponential). Both run
on this machine, over loopback, as does whatever else it does: the load average
is told beside the numbers, and the time that the server itself was busy.

* reads: dashboard, own week, the form of an action, a CSV file.
* writes: everybody logs an action at about the same time; a tenth of them send
  the form twice at once, as an impatient thumb does. Rows are counted after.
* photos: graded one after another within this process by the network that the
  server uses, and sent to the server, while a small file that its event loop
  alone answers tells whether that is held up.

The run fails unless the 95th percentile of reads is below 300 ms, rows are
those that were acknowledged, and grading takes less than 50 ms.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import io
import os
from pathlib import Path
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
import sqlalchemy as sa

from jaxedge.foodwise.base import rules, security, settings, tables
from jaxedge.foodwise.base.database import Database, migrate
from jaxedge.foodwise.base.settings import CONSENT
from jaxedge.foodwise.upkeep import replay, versions

ROOT = Path(__file__).resolve().parents[2]
READ_MS, GRADE_MS = 300.0, 50.0  # Targets.
PAGES = {"/": 0.25, "/me": 0.35, "/log": 0.35, "/data/what.csv": 0.05}
PHOTOS, TWICE = 40, 0.1
WAIT_S = 60.0
ONCE = re.compile(r'name="once" value="([^"]+)"')


@dataclasses.dataclass
class Person:
    """Somebody with a browser."""

    cookie: dict[str, str]
    csrf: str


def prepared(
    folder: Path, database: str, users: int
) -> tuple[settings.Settings, list[Person]]:
    """The made-up campaign, and persons who are logged in."""
    made = settings.prepare(settings.Settings(folder, database))
    migrate(made.url)
    opened = Database(made.url)
    today = rules.day_of(tables.now(), rules.Rules())
    replay.load(opened, made, 0, today, pictures=0)
    guard, people = security.Guard(made, opened), []
    with opened.write() as session:
        # Whatever the hour is, canteens serve: actions count.
        session.execute(sa.delete(tables.MealPeriod))
        for n in range(users):
            user = tables.User(pseudonym=f"load{n}", password_hash="none")
            session.add(user)
            session.flush()
            session.add(tables.Consent(user_id=user.id, version=CONSENT))
            token = guard.start(session, user)
            cookie = f"{security.COOKIE}={guard.sign(token)}"
            people.append(Person({"cookie": cookie}, guard.code("csrf", token)))
    opened.close()
    return made, people


@contextlib.contextmanager
def served(made: settings.Settings, grader: str) -> Any:
    """A server of the instance; yields its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jaxedge.foodwise", "serve",
               f"--folder={made.folder}", f"--port={port}",
               f"--grader={grader}"]  # fmt: skip
    if made.database:
        command.append(f"--database={made.database}")
    base, end = f"http://127.0.0.1:{port}", time.monotonic() + 10 * WAIT_S
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while True:
                try:
                    httpx.get(f"{base}/static/style.css", trust_env=False)
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.monotonic() > end:
                        raise RuntimeError("the server did not start") from None
                    time.sleep(0.2)
            _settle(process.pid)
            yield base, process.pid
        finally:
            process.terminate()
            process.wait(WAIT_S)


def _settle(process: int) -> None:
    """Waits until a server has compiled what it compiles beside its start."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        before = busy_s(process)
        time.sleep(1)
        if busy_s(process) - before < 0.1:
            return


class Load:
    """Clients of one server.

    Attributes:
        took: what was asked for -> seconds of each answer.
        failed: how many answers were none, or not those that were hoped for.
        acknowledged: `once` of each form whose action was acknowledged.
        sent: how many forms were sent.
        busy_s: processor time that the server took for all of it.
    """

    def __init__(self, base: str, people: list[Person], think: float) -> None:
        limits = httpx.Limits(
            max_connections=len(people) + 50,
            max_keepalive_connections=len(people) + 50,
            keepalive_expiry=3,  # Before the server closes it, after 5 s.
        )
        self.client = httpx.AsyncClient(
            base_url=base, limits=limits, timeout=WAIT_S, trust_env=False
        )
        self.people, self.think = people, think
        self.took: dict[str, list[float]] = {}
        self.failed: list[str] = []
        self.acknowledged: list[str] = []
        self.sent, self.busy_s = 0, 0.0

    async def ask(self, what: str, method: str, path: str, **rest: Any) -> str:
        """One answer's text; "" for a failure."""
        start = time.perf_counter()
        try:
            answer = await self.client.request(method, path, **rest)
        except httpx.HTTPError as error:
            self.failed.append(f"{what}: {type(error).__name__}")
            return ""
        self.took.setdefault(what, []).append(time.perf_counter() - start)
        if answer.status_code != 200:
            self.failed.append(f"{what}: {answer.status_code}")
            return ""
        return answer.text

    async def reads(self, seconds: float) -> None:
        """Everybody looks at pages."""
        end = time.perf_counter() + seconds
        await asyncio.gather(
            *(self._reader(n, end) for n in range(len(self.people)))
        )

    async def _reader(self, n: int, end: float) -> None:
        rng = np.random.default_rng(n)
        # Persons who came at different times.
        await asyncio.sleep(rng.uniform(0, self.think))
        while time.perf_counter() < end:
            page = str(rng.choice(list(PAGES), p=list(PAGES.values())))
            await self.ask(page, "GET", page, headers=self.people[n].cookie)
            await asyncio.sleep(rng.exponential(self.think))

    async def writes(self) -> None:
        """Everybody logs an action within the time of a thought."""
        await asyncio.gather(
            *(self._writer(n) for n in range(len(self.people)))
        )

    async def _writer(self, n: int) -> None:
        rng = np.random.default_rng(n)
        await asyncio.sleep(rng.uniform(0, self.think))
        form = await self.ask(
            "form", "GET", "/log", headers=self.people[n].cookie
        )
        found = ONCE.search(form)
        if found is None:
            return
        times = 2 if rng.random() < TWICE else 1
        self.sent += times
        texts = await asyncio.gather(
            *(self._log(n, found[1], "shared") for _ in range(times))
        )
        if any('role="status"' in text for text in texts):
            self.acknowledged.append(found[1])

    async def _log(self, n: int, once: str, kind: str, **rest: Any) -> str:
        person = self.people[n]
        data = {"csrf": person.csrf, "once": once, "canteen": "1",
                "meal": "lunch", "kind": kind}  # fmt: skip
        what = "log with a photo" if rest else "log"
        return await self.ask(
            what, "POST", "/log", data=data, headers=person.cookie, **rest
        )

    async def photos(self, files: list[bytes]) -> None:
        """A photo after another; beside that, a small file again and again."""
        done = asyncio.Event()

        async def small() -> None:
            while not done.is_set():
                await self.ask("event loop", "GET", "/static/icon.svg")
                await asyncio.sleep(0.02)

        beside = asyncio.create_task(small())
        for n, file in enumerate(files):
            person = n % len(self.people)
            form = await self.ask(
                "form", "GET", "/log", headers=self.people[person].cookie
            )
            found = ONCE.search(form)
            if found:
                sent = {"photo": ("plate.jpg", file, "image/jpeg")}
                await self._log(person, found[1], "clean_plate", files=sent)
        done.set()
        await beside


def plate_files(count: int) -> list[bytes]:
    """Photos as a phone sends them, of synthetic plates, 1600 x 1200."""
    from jaxedge.data import plates

    found = []
    for image_SxSx3 in plates.draw(range(count), split="test").image_NxSxSx3:
        out = io.BytesIO()
        image = Image.fromarray(np.asarray(image_SxSx3))
        image.resize((1600, 1200), Image.Resampling.BICUBIC).save(out, "JPEG")
        found.append(out.getvalue())
    return found


def grading(made: settings.Settings, files: list[bytes]) -> dict[str, Any]:
    """Seconds of reading a photo, and of grading it, after the first one."""
    from jaxedge.foodwise.campaign import photos

    opened = Database(made.url)
    with opened.read() as session:
        version = versions.active(session)
    opened.close()
    assert version is not None
    judge, read_s, grade_s = versions.load(made, version), [], []
    for file in files:
        start = time.perf_counter()
        picture = photos.read(file)
        middle = time.perf_counter()
        judge.grade(picture.image_HxWx3)
        read_s.append(middle - start)
        grade_s.append(time.perf_counter() - middle)
    return {"read a photo": read_s[1:], "grade a photo": grade_s[1:]}


def count(made: settings.Settings) -> tuple[int, int, int]:
    """Actions of these persons, forms among them, rows of points for them."""
    opened = Database(made.url)
    mine = tables.User.pseudonym.startswith("load")
    actions = sa.func.count(tables.Action.id)
    forms = sa.func.count(tables.Action.once.distinct())
    with opened.read() as session:
        rows, distinct = session.execute(
            sa.select(actions, forms)
            .join(tables.User, tables.User.id == tables.Action.user_id)
            .where(mine, tables.Action.kind == "shared")
        ).one()
        points = session.scalar(
            sa.select(sa.func.count(tables.PointsEntry.id))
            .join(tables.User, tables.User.id == tables.PointsEntry.user_id)
            .where(mine, tables.PointsEntry.reason == "action")
        )
    opened.close()
    return rows, distinct, points or 0


def milliseconds(seconds: list[float], share: float) -> float:
    """A percentile."""
    return 1000 * float(np.percentile(seconds, share))


def busy_s(process: int) -> float:
    """Seconds of processor time that a process has taken so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shown(took: dict[str, list[float]], title: str) -> Table:
    """Percentiles of what was asked."""
    table = Table(title=title)
    for name in ("what", "answers", "p50 ms", "p95 ms", "most ms"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name, seconds in took.items():
        table.add_row(
            name,
            str(len(seconds)),
            *(f"{milliseconds(seconds, p):.0f}" for p in (50, 95, 100)),
        )
    return table


async def measured(
    given: argparse.Namespace,
    base: str,
    process: int,
    people: list[Person],
    files: list[bytes],
) -> tuple[Load, Load, Load]:
    """All three loads, one after another."""
    loads = []
    for part in ("reads", "writes", "photos"):
        load = Load(base, people, given.think)
        async with load.client:
            await load.ask("/", "GET", "/")  # The first of them makes it.
            load.took.clear()
            load.busy_s = -busy_s(process)
            if part == "reads":
                await load.reads(given.seconds)
            elif part == "writes":
                await load.writes()
            else:
                await load.photos(files)
            load.busy_s += busy_s(process)
        loads.append(load)
    return loads[0], loads[1], loads[2]


def run(given: argparse.Namespace, folder: Path, database: str) -> bool:
    """Measures and prints; returns whether the targets were met."""
    console = Console()
    made, people = prepared(folder, database, given.users)
    files = plate_files(PHOTOS) if given.grader == "train" else []
    with served(made, given.grader) as (base, process):
        before = os.getloadavg()[0]
        reads, writes, photos = asyncio.run(
            measured(given, base, process, people, files)
        )
    after = os.getloadavg()[0]
    alone = grading(made, files) if files else {}
    rows, forms, points = count(made)
    console.print(
        f"{given.users} persons, {given.think:g} s between pages, on"
        f" {given.database}; load average {before:.1f} before, {after:.1f}"
        f" after, {os.cpu_count()} cores"
    )
    every = [s for seconds in reads.took.values() for s in seconds]
    console.print(shown(reads.took | {"all pages": every}, "reads"))
    console.print(
        f"{len(every) / given.seconds:.1f} answers a second, for each of which"
        f" the server was busy for {1000 * reads.busy_s / len(every):.1f} ms"
    )
    console.print(shown(writes.took, "writes"))
    sent = writes.sent
    console.print(
        f"{sent} forms sent, {len(writes.acknowledged)} actions acknowledged,"
        f" {rows} rows, {forms} different, {points} rows of points"
    )
    if files:
        console.print(shown(photos.took, "photos, sent one after another"))
        console.print(shown(alone, "photos, within one process"))
    failed = reads.failed + writes.failed + photos.failed
    console.print(f"failed answers: {len(failed)} {sorted(set(failed))[:5]}")
    met = {
        "reads": milliseconds(every, 95) < READ_MS,
        "no action lost or doubled": len(writes.acknowledged)
        == rows == forms == points,
        "no failure": not failed,
    }  # fmt: skip
    if files:
        grade = milliseconds(alone["grade a photo"], 50)
        met["grading"] = grade < GRADE_MS
    console.print("targets: " + ", ".join(
        f"{name} {'met' if ok else 'MISSED'}" for name, ok in met.items()
    ))  # fmt: skip
    return all(met.values())


def main() -> int:
    """Reads the flags; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--think", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--database", choices=("sqlite", "postgresql"))
    parser.add_argument("--grader", choices=("train", "none"), default="train")
    given = parser.parse_args()
    rounds = [given]
    if given.database is None:
        rounds = [argparse.Namespace(**vars(given) | {"database": "sqlite"})]
        if shutil.which("initdb") or list(Path("/usr/lib").glob("postgresql")):
            more = {"database": "postgresql", "grader": "none"}
            more |= {"users": 1000, "think": 30.0}
            rounds.append(argparse.Namespace(**vars(given) | more))
    return 0 if all([_one(each) for each in rounds]) else 1


def _one(given: argparse.Namespace) -> bool:
    """A round in a folder, and a database, of its own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = ""
        if given.database == "postgresql":
            sys.path.insert(0, str(ROOT))
            from tests.foodwise.postgres import running

            database = stack.enter_context(running())()
        return run(given, folder / "instance", database)


if __name__ == "__main__":
    sys.exit(main())
