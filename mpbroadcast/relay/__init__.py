"""The relay: from a JetStream stream into a sink, by any number of members on any number of machines.

Runs in: the process of ``mpbroadcast relay``.

::

    stream ──▶ reader ──▶ partition of the object mine? ──▶ outlet: sink handlers ──▶ API server, store, log
                               │ no: dropped                      │ settled
    KV bucket ◀── leases ◀─────┴── positions ◀────────────────────┘

**All events of one object go to one member**, so that repeats are counted and similar events combined as if there were
one process. Objects are spread over a fixed number of *partitions* by a hash of namespace, kind and name.

**A partition is one key** of a key-value bucket: ``{"owner": member, "position": n}``. Everything in the stream up to
that position is settled for this partition. A member takes, keeps and gives back a partition by compare-and-set on the
key's revision, and says how far it is in the same write. So there are no two owners, and no position by somebody who is
not the owner. The owner writes the key every second; a key that nobody has written for the lease time may be taken.
Nobody's clock is compared with anybody else's: each member measures with its own how long a revision has stood still.
A member that could not renew stops writing to its sink before its lease is over for others.

**Why positions, and not a consumer of JetStream with acknowledgements for each partition**: such a consumer delivers
what a dead member had in its hands again *after* its lease on each message is over, behind newer events of the same
object. A position keeps the order: the successor reads on from there. It also needs no list of partitions in the
subjects, and a stream of somebody else can be relayed.

**Each change of the set of partitions ends a round**: reading stops, what is under way is settled (or left to the next
owner), positions are written, and a new round begins with correlators that know nothing, as a restart does (W19).
Members come, go and are killed rarely; what is rare should be simple.

**Redelivery**: between a position and where a killed member really was there are events that are in the sink already.
They are marked as repeated: a create that meets an event of its name has met itself. An `SQLiteSink` keeps the position
in the transaction of the events, and stores nothing twice whatever is killed. For other sinks one thing is left: a
repeat that was *counted* in that last second by a member that is killed is written once more, as an event of its own.

**Cost**: every member reads the whole stream and drops what is not its own before it looks into it (`docs`,
"scale"): members share the work of the sinks, which is what limits a relay, not the reading.

==========  ====================================================================
`reader`    a stream from a position on, in order
`leases`    who owns which partition
`outlet`    sink handlers, and how far each partition is
`member`    joins the three
==========  ====================================================================
"""

from __future__ import annotations

__all__: list[str] = []
