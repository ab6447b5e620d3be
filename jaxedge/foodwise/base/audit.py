"""Who did what: rows that stay, without the name of a person who has gone."""

from typing import Any

from sqlalchemy.orm import Session

from jaxedge.foodwise.base.tables import AuditEntry, User


def note(
    session: Session,
    actor: User | None,
    what: str,
    subject: str = "",
    **detail: Any,
) -> None:
    """Adds a row.

    Args:
        session: that the act itself is written by.
        actor: who did it; None for the program.
        what: a word, such as "repair" or "import".
        subject: what it was done to, such as "campaign 3".
        **detail: numbers and short texts, nothing that tells a person.
    """
    session.add(
        AuditEntry(
            actor_id=actor.id if actor else None,
            what=what,
            subject=subject,
            detail=detail,
        )
    )


__all__ = ["note"]
