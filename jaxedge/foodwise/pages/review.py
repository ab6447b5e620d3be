"""Photos that the network was unsure of."""

from fastapi import APIRouter

router = APIRouter()

__all__ = ["router"]
