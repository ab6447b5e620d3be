"""Joining, logging in and out, language, consent."""

from fastapi import APIRouter

router = APIRouter()

__all__ = ["router"]
