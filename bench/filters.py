"""What the rewrite costs the server: the text that is sent upstream against the same statement under native row level security.

Two million rows of 1,000 tenants, one of them with a quarter of the rows. Both texts run over connections of the same kind, in turns
(A B A B ...), parsed and planned each time; the ratio is of the medians of what the server took. Prints a table; fails where one takes
more than 1.2 times as long, or the plans scan by other indexes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg

from bench.saving import save
from pgfaucet.database import decide_once
from pgfaucet.demo.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Sequence

TENANTS: Final = (42, 7)
LIMIT: Final = 1.2
SETTINGS: Final = {"shared_buffers": "512MB", "max_parallel_workers_per_gather": "0", "jit": "off"}
TABLE: Final = """
create role faucet_svc login;
create table big (id bigint, tenant_id int not null, cust_id int, created timestamptz, amount numeric, status text, note text);
insert into big select i, case when i % 4 = 0 then 7 else 1 + (i / 4 * 791::bigint) % 1000 end, i % 20000,
    timestamptz '2025-01-01 00:00+00' + i * interval '15 seconds', (i % 1000) / 10.0, (array['new','open','paid','void'])[1 + i % 4],
    'note ' || md5(i::text) from generate_series(1, {rows}) i;
alter table big add primary key (id);
create index on big (tenant_id, created);
create index on big (cust_id, created);
create table customers (id int primary key, name text);
insert into customers select i, 'customer ' || i from generate_series(0, 19999) i;
alter table big enable row level security;
grant select on big, customers to faucet_svc;
alter role faucet_svc bypassrls;
vacuum analyze big, customers
"""
NATIVE: Final = """create role tenant_{0} login; grant select on big, customers to tenant_{0};
create policy only_{0} on big to tenant_{0} using (tenant_id = {0})"""
POLICY: Final = """\
server: {listen: "127.0.0.1:6432", tokens: {store: "sqlite:tokens.db"}, audit: {file: audit.jsonl, key: audit.key}}
databases: {bench: {dsn: "${UPSTREAM_DSN}"}}
roles:
  agent:
    database: bench
    tables:
      big: {select: true, row_filter: "tenant_id = claim('tenant')::int"}
      customers: {select: true}
"""
QUERIES: Final = {
    "one row by its key": "select * from big where id = {key}",
    "a range by time": "select id, amount from big where created >= '2025-03-01 00:00+00' and created < '2025-03-01 01:00+00'",
    "the last ten": "select id, note from big order by created desc limit 10",
    "the last ten, LIKE": "select id, note from big where note like 'note a%' order by created desc limit 10",
    "numeric and key": "select id from big where amount > 0 and id = {key}",
    "three keys joined": "select b.id, b.note from (values ({key}), ({key} + 4000), ({key} + 8000)) v(id) join big b using (id)",
    "three keys joined, LIKE": (
        "select b.id from (values ({key}), ({key} + 4000), ({key} + 8000)) v(id) join big b using (id) where b.note like 'note%'"
    ),
    "EXISTS": (
        "select count(*) from customers c where c.id < 500 and exists (select 1 from big b where b.cust_id = c.id and b.status = 'paid')"
    ),
    "LATERAL, the last of each": (
        "select c.id, l.created from customers c cross join lateral"
        " (select created from big b where b.cust_id = c.id order by created desc limit 1) l where c.id < 500"
    ),
    "sum by group": "select status, sum(amount) from big group by status",
    "join and group": (
        "select c.name, count(*) from big b join customers c on c.id = b.cust_id where b.created >= '2025-12-01 00:00+00' group by c.name"
    ),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians in milliseconds of what the server took, and the indexes that either plan uses."""

    query: str
    tenant: int
    ours: float
    native: float
    our_indexes: tuple[str, ...]
    native_indexes: tuple[str, ...]
    sent: str

    @property
    def ratio(self) -> float:
        """Ours to native."""
        return self.ours / self.native


def main() -> int:
    options = parse_arguments()
    with (
        tempfile.TemporaryDirectory(prefix="pgfaucet-bench-") as directory,
        PostgresServer(settings=SETTINGS, trust=True) as server,
    ):
        server.run_sql("postgres", "create database bench")
        print(f"filling {options.rows} rows", file=sys.stderr)
        server.run_sql("bench", TABLE.format(rows=options.rows))
        for tenant in TENANTS:
            server.run_sql("bench", NATIVE.format(tenant))
        policies = Path(directory)
        (policies / "bench.yaml").write_text(POLICY.replace("${UPSTREAM_DSN}", server.dsn("bench", "faucet_svc")))
        costs = asyncio.run(measure(server, policies, options))
    print(table(costs))
    print(f"\n{save('filters', {'rows': options.rows, 'costs': [asdict(cost) for cost in costs]})}")
    return 0 if all(cost.ratio <= LIMIT and cost.our_indexes == cost.native_indexes for cost in costs) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each query and tenant (default 2)")
    return parser.parse_args()


async def measure(server: PostgresServer, policies: Path, options: argparse.Namespace) -> list[Cost]:
    costs = []
    ours = await asyncpg.connect(server.dsn("bench", "faucet_svc"), statement_cache_size=0)
    for tenant in TENANTS:
        native = await asyncpg.connect(server.dsn("bench", f"tenant_{tenant}"), statement_cache_size=0)
        key = await native.fetchval("select max(id) from big where id <= $1", options.rows // 2)
        for name, text in QUERIES.items():
            sql = text.format(key=key)
            ((decision, _),) = await decide_once(policies, "agent", {"tenant": str(tenant)}, sql)
            costs.append(await compare(name, tenant, (ours, decision.sql), (native, sql), options.seconds))
            print(f"  {name}, tenant {tenant}: {costs[-1].ratio:.2f}", file=sys.stderr)
        await native.close()
    await ours.close()
    return costs


Side = tuple[asyncpg.Connection, str]


async def compare(name: str, tenant: int, ours: Side, native: Side, seconds: float) -> Cost:
    """Time both in turns; refuse to compare what does not give the same rows."""
    rows = [sorted(map(repr, await connection.fetch(sql))) for connection, sql in (ours, native)]
    if rows[0] != rows[1]:
        raise SystemExit(f"{name}: {len(rows[0])} rows, natively {len(rows[1])}")
    times: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times[0]) < 5:
        for (connection, sql), taken in zip((ours, native), times, strict=True):
            began = time.perf_counter()
            await connection.execute(sql)
            taken.append((time.perf_counter() - began) * 1000)
    medians = (statistics.median(taken) for taken in times)
    return Cost(name, tenant, *medians, await indexes(*ours), await indexes(*native), ours[1])


async def indexes(connection: asyncpg.Connection, sql: str) -> tuple[str, ...]:
    """Return the scans of the plan: the index, or the kind of scan where there is none."""
    plan = json.loads(await connection.fetchval(f"explain (format json) {sql}"))[0]["Plan"]
    return tuple(sorted(scans(plan)))


def scans(plan: dict[str, Any]) -> list[str]:
    here = []
    if "Scan" in plan["Node Type"] and plan.get("Relation Name", plan.get("Index Name")):
        here.append(plan.get("Index Name") or f"{plan['Node Type']} {plan['Relation Name']}")
    return here + [scan for child in plan.get("Plans", []) for scan in scans(child)]


def table(costs: Sequence[Cost]) -> str:
    lines = [f"{'query':<28}{'tenant':>7}{'sent ms':>10}{'native ms':>11}{'ratio':>7}  indexes"]
    for cost in costs:
        same = cost.our_indexes == cost.native_indexes
        used = "the same" if same else f"{', '.join(cost.our_indexes)} | natively {', '.join(cost.native_indexes)}"
        lines.append(
            f"{cost.query:<28}{cost.tenant:>7}{cost.ours:>10.2f}{cost.native:>11.2f}{cost.ratio:>7.2f}  {used}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
