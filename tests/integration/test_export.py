"""What `pgfaucet export --rls` prints: loaded into a copy of the database, PostgreSQL itself answers as the proxy does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tests.kit.policies import SERVER
from tests.kit.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kit.postgres import Postgres

ROOT = Path(__file__).parent.parent.parent
ATTACKS = ROOT / "tests" / "attacks"
HIDDEN = frozenset({"42P01", "42703"})  # of the proxy; natively a name that is not granted is 42501
NATIVE_ROLES = ("agent42", "reader42", "writer", "narrow", "support-agent", "order-desk", "changing")

READER = (
    "select id, total from orders order by id",
    "select * from products order by sku",
    "select id, order_id, qty from order_items order by id",
    "select id, number, amount from invoices order by id",
    "select id, kind from events order by id",
    "select id, name from assets order by id",
    "select id, name, visits from customers order by id",
    "select o.id, i.id from orders o join order_items i on i.order_id = o.id order by 1, 2",
    "select add_tax(100)",
    "select margin from orders",
    "select * from api_keys",
    "select * from events_t43",
    "insert into products (sku, name, price) values ('x', 'x', 1)",
    "update orders set total = 0",
    "delete from orders",
)
WRITER = (
    "select id, status from orders order by id",
    "update orders set note = 'x' where id = 1 returning id",
    "update orders set note = 'x' where id in (2, 3, 4, 5) returning id, note",
    "update orders set total = 100000 where id = 4",
    "update orders set tenant_id = 43 where id = 4",
    "update notes set body = 'forbidden' where id = 4",
    "update notes set tenant_id = 43 where id = 4",
    "update kv set v = 'x'",
    "delete from bookings",
    "delete from bookings where id > 1",
    "delete from kv where k in ('a', 'b') returning k, v",
    "delete from notes where pinned returning id",
    "delete from customers",
    "insert into kv (k, v) values ('d', 'four') returning k, n",
    "insert into kv (k, v) values ('a', 'again') on conflict (k) do update set v = excluded.v returning k, v",
    "insert into products (sku, name, price) values ('x', 'x', 1)",
    "insert into api_keys (id) values (77)",
    "merge into orders o using (values (4, 'm'), (2, 'm')) v(id, note) on o.id = v.id when matched then update set note = v.note",
    "merge into kv using (values ('a'), ('z')) v(k) on kv.k = v.k when matched then delete when not matched then insert (k) values (v.k)",
)
DESK = (
    "select * from tenants",
    "select id, name from customers order by id",
    "select id, total, note from orders order by id",
    "select order_id, line, sku from order_items order by 1, 2",
    "select count(*) from order_items",
    "select email from customers",
    "select * from api_keys",
    "update orders set note = 'x' where id in (1018, 1002) returning id",
    "update orders set total = 0",
    "delete from orders where id = 1002",
    "delete from orders where id = 1018",
    "insert into customers (name) values ('x')",
    "truncate orders",
)
INSERTS = (
    ("orders", "tenant_id, customer_id, total", "42, 2, 12.50"),
    ("orders", "tenant_id, customer_id, total", "42, 2, 10000"),
    ("orders", "tenant_id, customer_id, total, purchase_cost", "42, 2, 1, 1"),
)


@dataclass(frozen=True, slots=True)
class Twin:
    """The proxy, and a copy of its database where the export was loaded."""

    postgres: Postgres
    proxy: Proxy
    native: str
    script: str

    def through_proxy(self, role: str, statement: str) -> Any:
        with psycopg.connect(self.proxy.dsn(self.proxy.token(role))) as connection:
            return _answer(connection, statement)

    def natively(self, role: str, statement: str, tenant: str | None = "42") -> Any:
        with psycopg.connect(self.postgres.dsn(self.native)) as connection:
            connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            if tenant is not None:
                connection.execute("select set_config('pgfaucet.claim_tenant', %s, true)", [tenant])
            return _answer(connection, statement)


def _answer(connection: psycopg.Connection[Any], statement: str) -> Any:
    """The SQLSTATE, or the rows and their number; nothing is kept."""
    try:
        cursor = connection.execute(statement)
        return cursor.rowcount, cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        return error.sqlstate
    finally:
        connection.rollback()


def _as_native(answer: Any) -> Any:
    return "42501" if isinstance(answer, str) and answer in HIDDEN else answer


def _export(proxy: Proxy, *options: str) -> str:
    done = proxy.run_command("export", "-c", str(proxy.policies), "--rls", *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def make_twin(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Twin]]:
    databases: list[str] = []
    proxies: list[Proxy] = []

    def make(template: str, roles: str) -> Twin:
        databases.extend((postgres.new_database(template), postgres.new_database(template)))
        proxies.append(Proxy(postgres, databases[-2], tmp_path_factory.mktemp("export"), roles=roles))
        proxies[-1].start()
        script = _export(proxies[-1])
        for _ in range(2):  # it can be run again
            postgres.run_sql(databases[-1], "\\set ON_ERROR_STOP 1\n" + script)
        return Twin(postgres, proxies[-1], databases[-1], script)

    yield make
    for running in proxies:
        running.stop()
    for name in databases:
        postgres.drop_database(name)
    for name in NATIVE_ROLES:
        postgres.run_sql("postgres", f'drop role if exists "{name}"')


@pytest.fixture(scope="module")
def attacked(make_twin: Callable[..., Twin], postgres: Postgres) -> Twin:
    postgres.load_template("redteam", ATTACKS / "schema.sql")
    return make_twin("redteam", (ATTACKS / "roles.yaml").read_text())


@pytest.fixture(scope="module")
def shop(make_twin: Callable[..., Twin]) -> Twin:
    return make_twin("shop", (ROOT / "policies" / "shop.yaml").read_text())


@pytest.mark.parametrize("statement", READER)
def test_a_reader_gets_the_same(attacked, statement):
    assert attacked.natively("reader42", statement) == _as_native(attacked.through_proxy("reader42", statement))


@pytest.mark.parametrize("statement", WRITER)
def test_a_writer_gets_the_same(attacked, statement):
    assert attacked.natively("writer", statement) == _as_native(attacked.through_proxy("writer", statement))


@pytest.mark.parametrize("role", ["support-agent", "order-desk"])
@pytest.mark.parametrize("statement", DESK)
def test_the_demo_gets_the_same(shop, role, statement):
    assert shop.natively(role, statement) == _as_native(shop.through_proxy(role, statement))


@pytest.mark.parametrize(("table", "columns", "values"), INSERTS)
def test_an_insert_that_names_the_preset_column_is_the_proxys_without_it(shop, table, columns, values):
    bare = f"insert into {table} ({columns.partition(', ')[2]}) values ({values.partition(', ')[2]})"
    native = shop.natively("order-desk", f"insert into {table} ({columns}) values ({values})")
    assert native == _as_native(shop.through_proxy("order-desk", bare))


def test_an_insert_with_another_value_than_the_preset_is_refused(shop):
    assert shop.natively("order-desk", "insert into orders (tenant_id, customer_id) values (43, 2)") == "42501"
    assert shop.natively("order-desk", "insert into orders (customer_id) values (2)") == "42501"


@pytest.mark.parametrize("tenant", [None, ""])
def test_without_its_claim_a_role_sees_no_row(shop, tenant):
    for table in ("tenants", "customers", "orders", "order_items"):
        assert shop.natively("support-agent", f"select count(*) from {table}", tenant) == (1, [(0,)])


def test_a_masked_column_is_not_shown_and_says_so(attacked):
    assert attacked.natively("reader42", "select email from customers") == "42501"
    assert "not in native form: mask of email: " in attacked.script


def test_a_filtered_view_is_not_granted_and_says_so(attacked):
    assert attacked.natively("reader42", "select * from order_summary") == "42501"
    assert "no row security on a relation of this kind" in attacked.script


def test_a_name_that_postgresql_reserves_is_not_exported_and_says_so(attacked):
    assert "-- role none: A token that may connect and see nothing\n--   not exported: " in attacked.script
    assert '"none"' not in attacked.script


def test_the_functions_of_row_filters_cannot_be_named(shop, attacked):
    assert "SECURITY DEFINER" in attacked.script
    call = """select "pgfaucet"."order-desk public.order_items row_filter"(null)"""
    assert shop.natively("order-desk", call) == "42501"


def test_the_proxys_own_user_sees_what_it_saw(shop):
    statement = "select count(*) from orders"
    assert shop.natively("faucet_svc", statement) == (1, [(30,)])


def test_a_claim_that_is_given_becomes_a_constant(shop, postgres):
    script = _export(shop.proxy, "--role", "support-agent", "--claim", "tenant=4'2")
    assert "current_setting" not in script
    assert "'4''2'" in script
    assert "order-desk" not in script


def test_the_proxy_works_through_the_second_lock(shop, postgres, tmp_path):
    native = sql.SQL("""
        create role "agent42" login in role "order-desk";
        alter role "agent42" set "pgfaucet.claim_tenant" = '42';""").as_string()
    postgres.run_sql(shop.native, native)
    server = SERVER.replace("${UPSTREAM_DSN}", f"postgresql://agent42@127.0.0.1:{postgres.port}/{shop.native}")
    roles = (ROOT / "policies" / "shop.yaml").read_text()
    roles = roles.replace("settings: {st", "statements: [copy]\n    settings: {st", 1)
    with Proxy(postgres, shop.native, tmp_path, roles=roles, server=server) as locked:
        token, other = locked.token("order-desk"), locked.token("order-desk", 43)
        insert = "insert into orders (customer_id, total) values (2, 12.50)"
        for statement in (*DESK, insert):
            with psycopg.connect(locked.dsn(token)) as connection:
                answer = _answer(connection, statement)
            assert answer == shop.through_proxy("order-desk", statement), statement
        # no way to the setting that holds the claim
        for statement in (
            "set pgfaucet.claim_tenant = '43'",
            "select set_config('pgfaucet.claim_tenant', '43', false)",
        ):
            with psycopg.connect(locked.dsn(other)) as connection:
                assert _answer(connection, statement) == "42501"
        with psycopg.connect(locked.dsn(token)) as connection, connection.cursor() as cursor:
            with cursor.copy("copy orders (customer_id, total) from stdin") as copy:
                copy.write("2\t5\n")
            assert cursor.rowcount == 1
            connection.rollback()
        # it opens nothing for the user whom it holds back
        assert "pgfaucet service" not in _export(locked)
        with psycopg.connect(locked.dsn(other)) as connection:  # the proxy would let it; the second lock does not
            assert _answer(connection, "select count(*) from orders") == (1, [(0,)])


def test_a_server_that_cannot_be_reached_exits_with_3(shop, tmp_path):
    (tmp_path / "server.yaml").write_text("databases: {shop: {dsn: 'postgresql://a@127.0.0.1:1/shop'}}\n")
    (tmp_path / "roles.yaml").write_text("roles: {agent: {database: shop, tables: {}}}\n")
    assert shop.proxy.run_command("export", "-c", str(tmp_path), "--rls").returncode == 3


CHANGING = """
roles:
  changing:
    database: shop
    tables:
      orders: {select: [id], row_filter: "tenant_id = 42"%s}
      tenants: {select: true, row_filter: "id in (select tenant_id from api_keys where secret like '%%birch')"}
"""


def test_what_a_policy_no_longer_grants_is_taken_back(make_twin, postgres, tmp_path):
    twin = make_twin("shop", CHANGING % ", update: [note], delete: true")
    update = "update orders set note = 'x' where id in (1002, 1018)"
    assert twin.natively("changing", update) == (1, [])
    assert twin.natively("changing", "select id from tenants") == (1, [(42,)])  # api_keys itself is not granted
    twin.proxy.roles_file.write_text((CHANGING % "").replace("      tenants", "      customers: {select: [name]}\n#"))
    postgres.run_sql(twin.native, _export(twin.proxy))
    assert twin.natively("changing", update) == "42501"
    assert twin.natively("changing", "delete from orders") == "42501"
    assert twin.natively("changing", "select count(*) from tenants") == "42501"
    assert twin.natively("changing", "select count(*) from orders") == (1, [(10,)])
    assert twin.natively("changing", "select count(*) from customers") == (1, [(9,)])
