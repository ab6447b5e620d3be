"""Campaigns, canteens, persons, audit."""

from fastapi import APIRouter

router = APIRouter()

__all__ = ["router"]
