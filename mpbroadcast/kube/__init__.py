"""A small asynchronous client for events on a Kubernetes API server.

============  =======================================================================================
`config`      the official client's configuration, as what a connection needs: address, TLS, proxy, token
`transport`   requests and answers over kept connections, with time-outs and bounds
`client`      create, patch, get, list and watch events, in both API shapes
`status`      what an answer that is no success means: one of this package's errors
`rbac`        the rules that a service account needs
============  =======================================================================================

Runs in: the process that posts, or a command that reads. Importing this package imports neither aiohttp nor the
official client: both are imported when a connection is made.
"""

from __future__ import annotations

__all__: list[str] = []
