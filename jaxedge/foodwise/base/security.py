"""Who asks, and whether they may: sessions, forms, passwords, limits.

A cookie holds a random token, signed; the database has its hash. Logging in
makes a new one, so that none can be fixed beforehand. Every form carries a
code made of the token, which another site cannot know.
"""

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
import datetime as dt
import hashlib
import hmac
import secrets
import threading
import time
from typing import Annotated, Any, NamedTuple

import argon2
from fastapi import Depends, HTTPException, Request
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import delete, select

from jaxedge.foodwise.base import rooms
from jaxedge.foodwise.base.database import Database
from jaxedge.foodwise.base.settings import Settings
from jaxedge.foodwise.base.tables import ROLES, LoginSession, User, now

COOKIE, VISIT = "foodwise", "foodwise_visit"
DAYS = 30  # A session lasts.
LEAST_LETTERS = 8  # Of a password.
# Of codes: without what is read for each other; 31 of them.
LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
HASHER = argon2.PasswordHasher()
# Each takes 64 MiB and a core for a while.
_HASHING = threading.Semaphore(4)


class Visitor(NamedTuple):
    """Who asks.

    Attributes:
        user: None before they log in.
        csrf: the code that their forms carry.
        language: of their pages.
        token: of the session, "" without one.
    """

    user: User | None
    csrf: str
    language: str
    token: str = ""


class NeedsLogin(Exception):
    """Whoever asks has to log in first."""


class Guard:
    """Signs, remembers and counts for one instance.

    Attributes:
        photos: where photos are read and graded.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._secret = settings.secret()
        self._signer = URLSafeSerializer(self._secret, salt="session")
        self._seen: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()
        self.photos = rooms.Room()

    def sign(self, token: str) -> str:
        """The value of a cookie."""
        return str(self._signer.dumps(token))

    def read(self, cookie: str | None) -> str:
        """The token of a cookie; "" for a wrong one."""
        try:
            return str(self._signer.loads(cookie or ""))
        except BadSignature:
            return ""

    def code(self, purpose: str, text: str) -> str:
        """A keyed hash: of what this instance alone can have made."""
        said = f"{purpose}\0{text}".encode()
        return hmac.new(self._secret.encode(), said, "sha256").hexdigest()

    def start(self, session: Any, user: User) -> str:
        """Logs in; returns the token of the new session."""
        token = secrets.token_urlsafe(32)
        moment = now()
        session.execute(
            delete(LoginSession).where(LoginSession.expires_at < moment)
        )
        session.add(
            LoginSession(
                token_hash=hashed(token),
                user_id=user.id,
                expires_at=moment + dt.timedelta(days=DAYS),
            )
        )
        return token

    def end(self, session: Any, token: str) -> None:
        """Logs out."""
        session.execute(
            delete(LoginSession).where(LoginSession.token_hash == hashed(token))
        )

    def user(self, token: str) -> User | None:
        """Whose session it is; None for an unknown, old or suspended one."""
        if not token:
            return None
        asked = (
            select(User)
            .join(LoginSession, LoginSession.user_id == User.id)
            .where(
                LoginSession.token_hash == hashed(token),
                LoginSession.expires_at >= now(),
                ~User.suspended,
            )
        )
        with self._database.read() as session:
            return session.scalars(asked).one_or_none()

    def allow(self, what: str, who: str, most: int) -> None:
        """Counts an attempt; raises status 429 beyond `most` a minute."""
        moment = time.monotonic()
        with self._lock:
            seen = self._seen[what, who]
            while seen and seen[0] < moment - 60:
                seen.popleft()
            if len(seen) >= most:
                raise HTTPException(429, "too_many")
            seen.append(moment)
            if len(self._seen) > 100_000:  # Nobody fills the memory.
                self._forget(moment)

    def _forget(self, moment: float) -> None:
        for key in [
            key
            for key, seen in self._seen.items()
            if not seen or seen[-1] < moment - 60
        ]:
            del self._seen[key]


def hashed(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def hash_password(password: str) -> str:
    """What is kept of a password; takes a good part of a second."""
    with _HASHING:
        return HASHER.hash(password)


def right_password(user: User | None, password: str) -> bool:
    """Whether it is theirs; takes as long for a name that nobody has."""
    kept = user.password_hash if user else _nobody()
    try:
        with _HASHING:
            return HASHER.verify(kept, password) and user is not None
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHash):
        return False


_NOBODY: list[str] = []


def warm_up() -> None:
    """Makes what an unknown name is compared with."""
    _nobody()


def _nobody() -> str:
    if not _NOBODY:
        _NOBODY.append(hash_password(secrets.token_hex()))
    return _NOBODY[0]


async def visitor(request: Request) -> Visitor:
    """Dependency: who asks; as the next one on the loop, without a thread."""
    return request.state.visitor


def find_visitor(request: Request, languages: tuple[str, ...]) -> Visitor:
    """Who asks, by the cookies; for the middleware alone."""
    guard: Guard = request.app.state.site.guard
    token = guard.read(request.cookies.get(COOKIE))
    user = guard.user(token)
    anchor = token if user else guard.read(request.cookies.get(VISIT))
    asked = request.cookies.get("language", "")
    if user:
        asked = user.language
    elif asked not in languages:
        header = request.headers.get("accept-language", "").lower()
        asked = "zh-Hant" if header.startswith("zh") else "en"
    code = guard.code("csrf", anchor) if anchor else ""
    return Visitor(user, code, asked, token if user else "")


async def form(request: Request) -> None:
    """Dependency of all that changes something: the form is one of ours."""
    said = request.headers.get("x-csrf-token")
    if said is None:
        kind = request.headers.get("content-type", "")
        if kind.startswith(
            ("application/x-www-form-urlencoded", "multipart/form-data")
        ):
            said = (await request.form()).get("csrf")
    wanted = request.state.visitor.csrf
    if not (
        wanted and isinstance(said, str) and hmac.compare_digest(said, wanted)
    ):
        raise HTTPException(403, "stale_form")


def at_least(role: str) -> Callable[..., Awaitable[User]]:
    """Dependency: someone of this role or a higher one of `tables.ROLES`."""

    async def found(asking: Annotated[Visitor, Depends(visitor)]) -> User:
        if asking.user is None:
            raise NeedsLogin
        if ROLES.index(asking.user.role) < ROLES.index(role):
            raise HTTPException(403, "not_yours")
        return asking.user

    return found


def address(request: Request) -> str:
    """Where a request comes from, for limits."""
    return request.client.host if request.client else "unknown"


__all__ = [
    "COOKIE",
    "Guard",
    "HASHER",
    "LEAST_LETTERS",
    "LETTERS",
    "NeedsLogin",
    "VISIT",
    "Visitor",
    "address",
    "at_least",
    "find_visitor",
    "form",
    "hash_password",
    "hashed",
    "right_password",
    "visitor",
    "warm_up",
]
