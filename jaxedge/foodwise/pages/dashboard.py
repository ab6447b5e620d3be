"""What the canteens throw away, told as a story."""

from fastapi import APIRouter

router = APIRouter()

__all__ = ["router"]
