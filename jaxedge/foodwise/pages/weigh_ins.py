"""What canteens weigh: files and tokens."""

from fastapi import APIRouter

router = APIRouter()

__all__ = ["router"]
