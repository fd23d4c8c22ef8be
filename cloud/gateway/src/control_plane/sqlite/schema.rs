//! The tables. Balances are kept beside the chained journal of entries, in the same transaction, so that a hold
//! reads one row; the journal is what proves them.

/// Applied in order by the store; never edited once released, only added to.
pub(super) const MIGRATION: &str = "
CREATE TABLE accounts (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    tier          TEXT NOT NULL,
    ceiling       INTEGER,
    quota         INTEGER,
    credits       INTEGER NOT NULL DEFAULT 0 CHECK (credits >= 0),
    unbilled      INTEGER NOT NULL DEFAULT 0 CHECK (unbilled >= 0),
    held          INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    quota_used    INTEGER NOT NULL DEFAULT 0 CHECK (quota_used >= 0),
    quota_month   TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    hash          BLOB PRIMARY KEY,
    account_id    TEXT NOT NULL REFERENCES accounts (id),
    expires_at_ms INTEGER NOT NULL,
    uses_left     INTEGER NOT NULL CHECK (uses_left >= 0),
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES accounts (id),
    state           TEXT NOT NULL CHECK (state IN ('enrolled', 'revoked')),
    agent           TEXT NOT NULL,
    serial          TEXT NOT NULL,
    enrolled_at_ms  INTEGER NOT NULL,
    last_seen_at_ms INTEGER,
    receipt_seq     INTEGER NOT NULL DEFAULT 0,
    receipt_head    BLOB NOT NULL
) STRICT;

CREATE TABLE requests (
    device_id       TEXT NOT NULL REFERENCES devices (id),
    request_id      TEXT NOT NULL,
    account_id      TEXT NOT NULL REFERENCES accounts (id),
    state           TEXT NOT NULL CHECK (state IN ('held', 'settled', 'released')),
    tier            TEXT NOT NULL,
    model           TEXT NOT NULL,
    held            INTEGER NOT NULL CHECK (held >= 0),
    price_version   INTEGER NOT NULL,
    input_per_mtok  INTEGER NOT NULL,
    output_per_mtok INTEGER NOT NULL,
    changed_at_ms   INTEGER NOT NULL,
    PRIMARY KEY (device_id, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_held ON requests (state) WHERE state = 'held';

CREATE TABLE receipts (
    device_id     TEXT NOT NULL REFERENCES devices (id),
    seq           INTEGER NOT NULL,
    request_id    TEXT NOT NULL,
    signed        BLOB NOT NULL,
    PRIMARY KEY (device_id, seq),
    UNIQUE (device_id, request_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE price_versions (
    version       INTEGER PRIMARY KEY,
    prices        TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
";

/// Adapters that devices pushed. The files are beside the database.
pub(super) const ADAPTERS: &str = "
CREATE TABLE adapters (
    account_id    TEXT NOT NULL REFERENCES accounts (id),
    name          TEXT NOT NULL,
    sha256        TEXT NOT NULL,
    size_bytes    INTEGER NOT NULL CHECK (size_bytes > 0),
    architecture  TEXT NOT NULL,
    rank          INTEGER NOT NULL,
    alpha         REAL NOT NULL,
    base_model    TEXT NOT NULL,
    pushed_by     TEXT NOT NULL,
    pushed_at_ms  INTEGER NOT NULL,
    PRIMARY KEY (account_id, name, sha256)
) STRICT;

CREATE INDEX adapters_files ON adapters (account_id, sha256);
";

/// Every certificate that was signed for a device, and the server CAs it trusts. Those of before have no issuer on record:
/// there was only one.
pub(super) const CERTIFICATES: &str = "
ALTER TABLE devices ADD COLUMN pinned TEXT NOT NULL DEFAULT '';

CREATE TABLE certificates (
    device_id    TEXT NOT NULL REFERENCES devices (id),
    serial       TEXT NOT NULL,
    issuer       BLOB,
    issued_at_ms INTEGER NOT NULL,
    PRIMARY KEY (device_id, serial)
) STRICT, WITHOUT ROWID;

INSERT INTO certificates SELECT id, serial, NULL, enrolled_at_ms FROM devices;
";
