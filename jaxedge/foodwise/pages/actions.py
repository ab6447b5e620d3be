"""Logging an action, and taking it back."""

from fastapi import APIRouter

router = APIRouter()

__all__ = ["router"]
