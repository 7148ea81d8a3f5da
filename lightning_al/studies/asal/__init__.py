"""The deployment of policies: what is asked, what is safe, and what that allows to say."""

from __future__ import annotations

__all__: list[str] = []
