-- The token store of pgfaucet. `pgfaucet token init` runs this in one transaction; who runs it by hand does the same.
-- A proxy needs USAGE on the schema, SELECT on its tables, and UPDATE (used_at) on tokens; `pgfaucet token` needs INSERT, UPDATE and DELETE.
CREATE SCHEMA pgfaucet;
COMMENT ON SCHEMA pgfaucet IS 'Tokens of pgfaucet. No secret is stored here, only hashes; who can write here can open every database behind it.';
REVOKE ALL ON SCHEMA pgfaucet FROM PUBLIC;

CREATE TABLE pgfaucet.schema_version (version integer NOT NULL);
INSERT INTO pgfaucet.schema_version VALUES (1);

CREATE TABLE pgfaucet.tokens (
    id text PRIMARY KEY,
    role text NOT NULL,
    label text NOT NULL,
    claims jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    secret_hash bytea NOT NULL,
    salt bytea NOT NULL,
    iterations integer NOT NULL,
    stored_key bytea NOT NULL,
    server_key bytea NOT NULL,
    terms jsonb NOT NULL,
    used_at timestamptz
);
CREATE INDEX tokens_expires_at ON pgfaucet.tokens (expires_at);

CREATE TABLE pgfaucet.revocations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_id text,
    selection jsonb, -- which signed tokens end
    at timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(token_id, selection) = 1)
);

CREATE TABLE pgfaucet.secrets (name text PRIMARY KEY, value bytea NOT NULL);
INSERT INTO pgfaucet.secrets
VALUES ('mock', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
