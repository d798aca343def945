"""``mpbroadcast serve``: a Kubernetes API for Events over a store. Runs in: its own process. Needs the extra ``serve``.

::

    kubectl, client libraries, KubernetesSink          other processes that record to the same file
        |  HTTP                                            |
    server -> app -> routes -> operations -> store  <------+
                       |                       |
                       +---- watch <- backend -+           (one writing and one reading thread; who waits for changes)

=============  =====================================================================================
`server`       options, listening, signals, shutting down
`app`          who may ask: hosts, tokens, sizes, patience with slow clients; errors as Status
`routes`       which URL does what
`operations`   create, get, list, update, patch, delete: what the real server does, over a `Store`
`watch`        streams of changes
`backend`      the threads that use the store, and the signal that something changed
`request`      what a writing request says: object, patch, options
`query`        what the query parameters of a list or watch say
`namespaces`   the namespaces that events live in
`resource`     the two shapes of events, core/v1 and events.k8s.io/v1
`validation`   what the real server refuses (spec 0.3)
`names`        the grammar of names, labels and annotations
`selectors`    field and label selectors
`patches`      JSON patch and strategic merge patch
`negotiation`  what ``Accept`` asks for
`output`       events as JSON, as rows of a Table, as metadata only
`discovery`    ``/api``, ``/apis`` and their like; `known` the kinds that events are about
`schema`       the fields of an event; `openapi` writes them for kubectl
`status`       the errors of a Kubernetes API
`kubeconfig`   the file that leads kubectl here; `certificate` for TLS
=============  =====================================================================================

Not a cluster: there are Events and the namespaces they live in, nothing else; one token or none, no roles.
"""

from __future__ import annotations

__all__: list[str] = []
