"""sse-diffusion: inverse design of solid-state electrolytes."""

from __future__ import annotations

__version__ = "0.1.0"
