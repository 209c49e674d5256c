"""The policy files as pydantic models: which keys there are, what each may hold, and the JSON Schema of it all (CONTRACT section 3)."""

from __future__ import annotations

from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import override

from pgfaucet.config import DEFAULT_PORT, SSO_ALGORITHMS, TcpAddress, ThrottleConfig
from pgfaucet.policy import fields
from pgfaucet.policy.fields import refusal

# ruff: noqa: TC001 - pydantic reads the annotations


class Section(BaseModel):
    """A mapping with known keys; any other is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsModel(Section):
    """TLS for clients."""

    cert: fields.Text = Field(description="File of the server certificate and its chain, PEM.", examples=["tls.crt"])
    key: fields.Text = Field(description="File of its private key, PEM.", examples=["tls.key"])
    required: fields.Flag = Field(
        default=True,
        description="Refuse clients without TLS. Must be true unless every listener is loopback or a Unix socket.",
    )


class TokensModel(Section):
    """Where tokens are kept."""

    store: fields.Store = Field(
        default="sqlite:tokens.db",
        description="sqlite:FILE, or postgresql:// for one shared by many proxies.",
        examples=["sqlite:tokens.db", "postgresql://faucet_tokens:${TOKENS_PASSWORD}@db.internal/tokens"],
    )
    max_ttl: fields.Duration = Field(
        default=86_400.0, description="The longest that a token may be valid.", examples=["24h"]
    )
    signed_by: fields.Names = Field(
        default=(),
        description="Files of public keys, PEM: who has the private key can sign tokens.",
        examples=[["signing.key.pub"]],
    )


class OauthModel(Section):
    """Which clients are asked for a bearer token the way PostgreSQL 18 does (OAUTHBEARER)."""

    users: fields.Names = Field(description="User names, with * and ?.", examples=[["*@example.com"]])
    scope: fields.Text = Field(default="openid", description="The scope that clients ask for.", examples=["openid"])


class ThrottleModel(Section):
    """How often an address may fail to log in before it is sent away."""

    failures: fields.Positive = Field(default=20, description="Failures at once, and in each period.", examples=[20])
    period: fields.Duration = Field(default=60.0, description="The period.", examples=["1m"])
    spared: fields.Networks = Field(
        default=ThrottleConfig().spared,
        description="Networks that are not counted; local stands for Unix-domain sockets.",
        examples=[["127.0.0.0/8", "::1", "local"]],
    )


class SsoModel(Section):
    """An identity provider whose signed tokens (JSON Web Tokens) are passwords here."""

    issuer: fields.Text = Field(description="The iss of its tokens.", examples=["https://idp.example.com/"])
    audience: fields.Audience = Field(
        description="The aud that stands for this proxy; one or a list.", examples=["pgfaucet"]
    )
    jwks: fields.Jwks = Field(
        description="Where its keys are: https://..., or file:PATH.", examples=["https://idp.example.com/jwks.json"]
    )
    role_claim: fields.Text = Field(
        default="groups", description="The claim that says which role its bearer has.", examples=["groups"]
    )
    roles: dict[str, fields.Text] = Field(
        description="Value of that claim: role. The first that fits, of the database that is asked for.",
        examples=[{"analysts": "orders-readonly"}],
    )
    claims: dict[str, fields.Text] = Field(
        default_factory=dict,
        description="Name for claim() in policies: name of the claim in the token.",
        examples=[{"tenant": "org_id"}],
    )
    algorithms: fields.Algorithms = Field(
        default=SSO_ALGORITHMS,
        description="Signatures that are accepted, each with its own kind of key only.",
        examples=[["ES256"]],
    )
    leeway: fields.Duration = Field(default=30.0, description="How far clocks may be apart.", examples=["30s"])
    max_ttl: fields.Duration = Field(
        default=28_800.0, description="The longest that a session may last, whatever the token says.", examples=["8h"]
    )
    oauth: OauthModel | None = Field(default=None, description="Which clients are asked for OAUTHBEARER.")


class RotationModel(Section):
    """When a new audit file is begun. Old ones keep the number of their first record as a suffix; none is removed."""

    size: fields.Size | None = Field(default=None, description="Before a file grows beyond this.", examples=["1GB"])
    every: fields.Duration | None = Field(default=None, description="When a file is this old.", examples=["1d"])


class SinkModel(Section):
    """Another place that audit records and checkpoints go to. What it misses while it is not there is in the log."""

    to: fields.SinkPlace = Field(
        description="stdout, file:PATH, syslog:/dev/log, syslog:udp://HOST:PORT, syslog:tcp://HOST:PORT, postgresql://... or https://...",
        examples=["file:/mnt/elsewhere/checkpoints.jsonl"],
    )
    what: fields.SinkWhat = Field(default="all", description="records, checkpoints, or all.", examples=["checkpoints"])
    format: fields.SinkFormat = Field(
        default="json",
        description="json as in the log, ocsf, otlp (OpenTelemetry's logs over HTTP), or spans (its traces).",
        examples=["ocsf"],
    )


class AuditModel(Section):
    """The audit log."""

    file: fields.Text = Field(
        default="audit.jsonl", description="File of the records, one JSON object a line.", examples=["audit.jsonl"]
    )
    durability: fields.Durability = Field(
        default="batch",
        description="async: on disk soon. batch: on disk before the client sees the statement's completion."
        " strict: also an intent record on disk before the statement is forwarded.",
        examples=["batch"],
    )
    params: fields.AuditParams = Field(
        default="hash",
        description="What is recorded of literals and parameters: a keyed hash, the values, or nothing.",
        examples=["hash"],
    )
    key: fields.Text = Field(
        default="audit.key", description="File of the key for params: hash; made when missing.", examples=["audit.key"]
    )
    rotate: RotationModel = Field(default_factory=RotationModel, description="When a new file is begun.")
    sinks: list[SinkModel] = Field(default_factory=list, description="Other places for records and checkpoints.")


class ServerModel(Section):
    """What the proxy listens on, and where it keeps tokens and records."""

    listen: fields.Addresses = Field(
        default=(TcpAddress("127.0.0.1", DEFAULT_PORT),),
        description="HOST:PORT, [IPV6]:PORT or unix:/DIRECTORY; one or a list.",
        examples=["127.0.0.1:6432"],
    )
    tls: TlsModel | None = Field(
        default=None, description="TLS for clients. Needed unless every listener is loopback or a Unix socket."
    )
    workers: fields.Workers = Field(
        default=1, description="Processes that serve the listeners; 0 is one for each core.", examples=[1]
    )
    tokens: TokensModel = Field(default_factory=TokensModel, description="Where tokens are kept.")
    sso: list[SsoModel] = Field(default_factory=list, description="Identity providers whose tokens are passwords.")
    throttle: ThrottleModel = Field(default_factory=ThrottleModel, description="How often an address may fail.")
    audit: AuditModel = Field(default_factory=AuditModel, description="The audit log.")
    admin: fields.TcpAddress = Field(
        default=None,
        description="HOST:PORT of /metrics, /healthz and /readyz; not served when absent.",
        examples=["127.0.0.1:7070"],
    )


class PoolModel(Section):
    """Connections to the server."""

    mode: fields.PoolMode = Field(
        default="transaction",
        description="transaction: a connection is leased for a transaction. session: until the client leaves.",
    )
    size: fields.PoolSize = Field(default=20, description="The most connections to the server.", examples=[20])
    min: fields.PoolMinimum = Field(default=0, description="Connections kept open when idle.", examples=[0])
    idle_timeout: fields.Duration = Field(
        default=300.0, description="An idle connection is closed after this.", examples=["5m"]
    )
    max_lifetime: fields.Duration = Field(
        default=3_600.0, description="A connection is replaced after this.", examples=["1h"]
    )
    wait_timeout: fields.Duration = Field(
        default=10.0, description="How long a statement waits for a connection.", examples=["10s"]
    )

    @model_validator(mode="after")
    def _minimum_fits(self) -> Self:
        if self.min > self.size:
            raise refusal(f"min is {self.min}, more than size, {self.size}", "lower min or raise size", "min")
        return self


class DatabaseModel(Section):
    """A database behind the proxy, under the name that clients connect to."""

    dsn: fields.Dsn = Field(
        description="Where the database is and who pgfaucet connects as.",
        examples=["postgresql://faucet_svc@db.internal:5432/shop"],
    )
    password: fields.Password = Field(
        default=None, description="Password for the server.", examples=["${SHOP_DB_PASSWORD}"]
    )
    password_file: fields.Text | None = Field(
        default=None,
        description="File of the password, read for each new connection: it may change at any time.",
        examples=["/run/secrets/shop"],
    )
    password_command: fields.Names = Field(
        default=(),
        description="Program and arguments; the first line that it prints is the password. Asked again after 30 s, and when the server refuses it.",
        examples=[["aws", "rds", "generate-db-auth-token", "--hostname", "db.internal"]],
    )
    pool: PoolModel = Field(default_factory=PoolModel, description="Connections to the server.")

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        given = [name for name in ("password", "password_file", "password_command") if getattr(self, name)]
        if len(given) > 1:
            raise refusal(f"{' and '.join(given)} are both written", "keep one", given[1])
        return self


class TableModel(Section):
    """What a role may do with a table (or view, materialized view, foreign table). Nothing that is not written."""

    select: fields.Columns = Field(
        default=False, description="true, false, or the columns that can be read.", examples=[["id", "status"]]
    )
    insert: fields.Columns = Field(default=False, description="true, false, or the columns that INSERT may name.")
    update: fields.Columns = Field(default=False, description="true, false, or the columns that UPDATE may set.")
    delete: fields.Flag = Field(default=False, description="Whether rows can be deleted.")
    truncate: fields.Flag = Field(default=False, description="Whether the table can be truncated.")
    row_filter: fields.Text | None = Field(
        default=None,
        description="Rows that can be read, updated, deleted: a PostgreSQL expression over the table's columns, with claim('k').",
        examples=["tenant_id = claim('tenant')::int"],
    )
    check: fields.Text | None = Field(
        default=None,
        description="Rows that may result from INSERT and UPDATE; row_filter when absent.",
        examples=["status <> 'paid'"],
    )
    preset: dict[str, fields.Text] = Field(
        default_factory=dict,
        description="Column: expression. Forced on INSERT; clients cannot set the column otherwise.",
        examples=[{"tenant_id": "claim('tenant')::int"}],
    )
    mask: dict[str, fields.Text] = Field(
        default_factory=dict,
        description="Column: expression that SELECT gives instead.",
        examples=[{"note": "left(note, 10)"}],
    )


class LimitsModel(Section):
    """Bounds for each client of a role. Absent: no bound."""

    rows: fields.Positive | None = Field(
        default=None, description="Rows that one statement may return.", examples=[10000]
    )
    affected_rows: fields.Positive | None = Field(
        default=None, description="Rows that one statement may change.", examples=[100]
    )
    bytes: fields.Size | None = Field(
        default=None, description="Bytes that one statement may return.", examples=["64MB"]
    )
    statement_bytes: fields.StatementSize = Field(
        default=65_536, description="Length of a query string; at most 1MB.", examples=["64KB"]
    )
    connections: fields.Positive | None = Field(default=None, description="Clients at once.", examples=[10])
    rate: fields.Rate | None = Field(
        default=None, description="Statements in a time, for one session.", examples=["50/s"]
    )
    cost: fields.Cost | None = Field(
        default=None, description="The planner's estimate for one statement.", examples=[1000000]
    )


class RoleModel(Section):
    """A role: what its tokens may do in one database. Nothing that is not written."""

    description: fields.Text = Field(default="", description="What the role is for; shown by `role list`.")
    database: fields.Text | None = Field(
        default=None, description="A name under databases; inherited when absent.", examples=["shop"]
    )
    inherits: fields.Names = Field(
        default=(), description="Roles whose grants are taken over.", examples=[["orders-readonly"]]
    )
    search_path: fields.Names = Field(
        default=("public",), description="Schemas for unqualified names, in order.", examples=[["public"]]
    )
    tables: dict[str, TableModel] = Field(
        default_factory=dict,
        description='Grants by table: orders, hr.salaries, or "*" for every table outside the system schemas.',
    )
    functions: fields.Names = Field(
        default=(),
        description='Functions beyond the safe built-ins, as schema.name; "*" for all but the dangerous.',
        examples=[["public.order_total"]],
    )
    statements: fields.StatementKinds = Field(
        default=(), description="Statement kinds beyond the harmless core.", examples=[["temp", "copy"]]
    )
    settings: dict[str, fields.Value] = Field(
        default_factory=dict,
        description="Settings fixed for the session; a timeout can be lowered by the client.",
        examples=[{"statement_timeout": "5s"}],
    )
    allow_set: fields.Names = Field(
        default=(), description="Settings that clients may set beyond the harmless ones.", examples=[["timezone"]]
    )
    limits: LimitsModel = Field(default_factory=LimitsModel, description="Bounds.")
    require_where: fields.Flag = Field(default=False, description="Refuse UPDATE and DELETE without WHERE.")
    explain: fields.Explain = Field(
        default="safe", description="off; safe: without costs and without ANALYZE where a table is filtered; full."
    )
    mode: fields.Mode = Field(
        default="enforce", description="observe forwards everything and audits what it would have done."
    )
    access: fields.Access = Field(
        default="policy", description="full: no grants and no rewriting; every statement is still audited."
    )


class PolicyTestModel(Section):
    """Statements and what must be decided about them; run by `pgfaucet test`."""

    role: fields.Text = Field(description="Decide as this role.", examples=["support-agent"])
    claims: dict[str, fields.Value] = Field(
        default_factory=dict, description="Claims of the token.", examples=[{"tenant": 42}]
    )
    allow: fields.Names = Field(
        default=(), description="Statements that must be allowed.", examples=[["select id from orders"]]
    )
    deny: dict[str, fields.SqlState] = Field(
        default_factory=dict,
        description="Statement: the SQLSTATE that must refuse it.",
        examples=[{"delete from orders": "42501"}],
    )


class PolicyFile(Section):
    """A policy file. Every *.yaml and *.yml of a directory is read; each may hold any of these."""

    server: ServerModel = Field(
        default_factory=ServerModel, description="Listeners, tokens, audit; in one file of the directory."
    )
    databases: dict[str, DatabaseModel] = Field(
        default_factory=dict, description="Databases by the name that clients connect to."
    )
    roles: dict[str, RoleModel] = Field(default_factory=dict, description="Roles by name.")
    tests: list[PolicyTestModel] = Field(default_factory=list, description="Tests of the policy.")


class _PlainSchema(GenerateJsonSchema):
    """JSON Schema without made-up titles, without defaults in their internal form, and without null, which no key takes."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def default_schema(self, schema: Any) -> Any:
        return self.generate_inner(schema["schema"])

    @override
    def nullable_schema(self, schema: Any) -> Any:
        return self.generate_inner(schema["schema"])


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy file."""
    schema = PolicyFile.model_json_schema(schema_generator=_PlainSchema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "pgfaucet policy file"}


SECTIONS: Final = tuple(PolicyFile.model_fields)
