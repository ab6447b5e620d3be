"""A person's own week, streak, team and data."""

from fastapi import APIRouter

router = APIRouter()

__all__ = ["router"]
