"""Measures what this project exists for, side by side with what a user would take instead.

Each file is one question, named by its topology::

    one_to_one    1 producer  ──▶ 1 consumer                     bytes in, bytes out
    many_to_one   2 producers ──▶ 1 consumer
    one_to_many   1 producer  ──▶ distributor ──▶ 3 watchers
    many_to_many  4 producers ──▶ distributor ──▶ 3 watchers
    ping_pong     1 paced message, producer to consumer           latency
    recorder      one call of recorder.event()
    handlers      1 ──▶ 3 watchers with Python handlers
    logging_pipeline, stores, kube_sink                           what a sink carries
    footprint, scaling, starting                                  memory, lanes and watchers, time to the first event
    soak, chaos                                                   for hours; under faults

Every run is a fresh process that prints one line of JSON. A run in which sent is not received plus counted losses is
void.
"""
