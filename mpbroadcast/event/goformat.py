"""The format strings of ``eventf``: `mpbroadcast.base.goformat`, which `klog` uses too. Runs in: your process."""

from __future__ import annotations

from mpbroadcast.base.goformat import gofmt

__all__ = ["gofmt"]
