-- The tables of an event store, version 1. `opening.py` runs this once, in one transaction, when it makes a file.
-- No comment here may hold a semicolon: the file is split at them.

-- One row per event.
CREATE TABLE event (
  -- The resource version that the event was created with. It never changes: lists are in this order, which is the
  -- order of creation, and "what existed at version N" is id <= N.
  id INTEGER PRIMARY KEY,
  -- The version of the last write. Ascending order of it is also the order of the last writes, oldest first.
  resource_version INTEGER NOT NULL,
  -- When the last write was, Unix nanoseconds.
  written INTEGER NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  uid TEXT NOT NULL,
  -- The involved object.
  object_kind TEXT NOT NULL,
  object_namespace TEXT NOT NULL,
  object_name TEXT NOT NULL,
  object_uid TEXT NOT NULL,
  type TEXT NOT NULL,
  reason TEXT NOT NULL,
  -- When it happened last, Unix nanoseconds, never later than written.
  last_seen INTEGER NOT NULL,
  -- The whole object as core/v1 JSON. The columns above are copies out of it, for the indexes.
  object BLOB NOT NULL
);

CREATE UNIQUE INDEX event_identity ON event (namespace, name);
CREATE UNIQUE INDEX event_resource_version ON event (resource_version);
CREATE INDEX event_namespace ON event (namespace);
-- By the name alone: it finds an object's few events, in the order of lists and however the kind was spelled. A wider
-- index costs more than it saves: names come in no order, so every page of it is written again and again.
CREATE INDEX event_object ON event (object_name);
CREATE INDEX event_last_seen ON event (last_seen);
CREATE INDEX event_reason ON event (reason);
-- Nearly every event is Normal, and finding those needs no index.
CREATE INDEX event_type ON event (type) WHERE type <> 'Normal';

-- What was deleted lately, so that a watcher that lags behind learns of it.
CREATE TABLE tombstone (
  -- The version of the deletion.
  resource_version INTEGER PRIMARY KEY,
  event_id INTEGER NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  -- The last state, or NULL where it was too large to keep twice.
  object BLOB
);

-- How far a source (such as a watcher's ring) has been written, in the same transaction as its events.
CREATE TABLE position (
  source TEXT PRIMARY KEY,
  sequence INTEGER NOT NULL
) WITHOUT ROWID;

-- One row: the version of the last write, and up to which version tombstones were thrown away.
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  resource_version INTEGER NOT NULL,
  forgotten INTEGER NOT NULL
);

-- A Kubernetes client takes version 0 as "any", so no store ever shows it.
INSERT INTO state (id, resource_version, forgotten) VALUES (1, 1, 1);
