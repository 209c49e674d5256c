from __future__ import annotations

from dataclasses import replace

from pglast import parse_sql

from pgfaucet.policy.export import Export, Server
from tests.kit.catalog import shop
from tests.kit.policy_files import agent, load_text, orders

SERVICE = Server(user="svc", user_passes=False)


def script(text: str, server: Server = SERVICE, **claims: str) -> str:
    roles = list(load_text(text).policy.roles.values())
    written = Export(shop(), server, roles, claims).script(roles, "title")
    parse_sql(written)
    return written


def statements(written: str) -> list[str]:
    return [line for line in written.replace("\n    ", " ").splitlines() if line and not line.startswith("--")]


def of_kind(written: str, start: str) -> list[str]:
    return [line for line in statements(written) if line.startswith(start)]


def notes(written: str) -> list[str]:
    return [line for line in written.splitlines() if line.startswith("--   ")]


def test_it_is_one_transaction_with_a_fixed_search_path():
    lines = statements(script(orders("select: true")))
    assert lines[:2] == ["BEGIN;", "SET LOCAL search_path = pg_catalog, pg_temp;"]
    assert lines[-1] == "COMMIT;"


def test_each_verb_is_granted_on_its_columns():
    written = script(orders("select: [id, note]\nupdate: [note]\ninsert: [id]\ndelete: true\ntruncate: true"))
    assert of_kind(written, "GRANT SELECT") == [
        'GRANT SELECT ("id", "note"), INSERT ("id"), UPDATE ("note"), DELETE, TRUNCATE ON "public"."orders" TO "agent";'
    ]
    assert 'GRANT USAGE ON SCHEMA "public" TO "agent";' in written


def test_a_table_without_a_filter_gets_no_row_security():
    written = script(orders("select: true"))
    assert not of_kind(written, "ALTER TABLE")
    assert not of_kind(written, "CREATE POLICY")


def test_a_table_that_has_row_security_gets_policies_that_let_everything_through():
    server = replace(SERVICE, secured={20_020: frozenset({"their own"})})
    written = script(orders("select: true"), server)
    assert of_kind(written, "CREATE POLICY") == [
        'CREATE POLICY "pgfaucet agent select" ON "public"."orders" FOR SELECT TO "agent" USING (true);'
    ]
    assert any("policy their own of public.orders is not pgfaucet's" in note for note in notes(written))


def test_filter_and_check_are_using_and_with_check():
    keys = "select: true\ninsert: true\nupdate: true\ndelete: true\nrow_filter: tenant_id = 1\ncheck: total < 9"
    policies = [line.partition(" FOR ")[2] for line in of_kind(script(orders(keys)), 'CREATE POLICY "pgfaucet agent')]
    assert policies == [
        'SELECT TO "agent" USING (tenant_id = 1);',
        'INSERT TO "agent" WITH CHECK (total < 9);',
        'UPDATE TO "agent" USING (tenant_id = 1) WITH CHECK (total < 9);',
        'DELETE TO "agent" USING (tenant_id = 1);',
    ]


def test_without_a_check_the_filter_is_the_check():
    policies = of_kind(script(orders("insert: true\nrow_filter: tenant_id = 1")), 'CREATE POLICY "pgfaucet agent')
    assert [line.partition(" FOR ")[2] for line in policies] == ['INSERT TO "agent" WITH CHECK (tenant_id = 1);']


def test_a_policy_is_dropped_before_it_is_made():
    lines = statements(script(orders("select: true\nrow_filter: tenant_id = 1")))
    drop = lines.index('DROP POLICY IF EXISTS "pgfaucet agent select" ON "public"."orders";')
    create = next(n for n, line in enumerate(lines) if line.startswith('CREATE POLICY "pgfaucet agent select"'))
    assert drop < create


def test_a_filter_that_reads_another_table_becomes_a_function_of_the_owner():
    written = script(orders("select: true\nrow_filter: customer_id in (select id from customers)"))
    [function] = of_kind(written, "CREATE OR REPLACE FUNCTION")
    assert '"pgfaucet"."agent public.orders row_filter"(pgf_row "public"."orders")' in function
    assert "SECURITY DEFINER SET search_path = pg_catalog, pg_temp" in function
    assert "pgf_row.customer_id IN (SELECT pgf_1.id" in function
    assert 'USING ("pgfaucet"."agent public.orders row_filter"("orders".*));' in written
    assert any("FROM PUBLIC" in line for line in of_kind(written, "REVOKE ALL ON FUNCTION"))


def test_a_preset_is_granted_and_its_value_checked():
    written = script(orders("insert: [note]\npreset: {tenant_id: \"claim('t')::int4\"}"), t="42")
    assert 'INSERT ("tenant_id", "note")' in written
    assert "WITH CHECK (tenant_id IS NOT DISTINCT FROM '42'::pg_catalog.text::int::int)" in written
    assert any("preset of tenant_id" in note for note in notes(written))


def test_a_masked_column_is_not_granted():
    written = script(orders('select: [id, note]\nmask: {note: "left(note, 1)"}'))
    assert of_kind(written, "GRANT SELECT") == ['GRANT SELECT ("id") ON "public"."orders" TO "agent";']
    assert any("mask of note" in note for note in notes(written))


def test_truncate_of_a_filtered_table_is_not_granted():
    written = script(orders("select: true\ntruncate: true\nrow_filter: tenant_id = 1"))
    assert "TRUNCATE" not in "".join(statements(written))
    assert any("truncate" in note for note in notes(written))


def test_a_filtered_view_is_not_granted():
    written = script(agent("tables: {order_totals: {select: true, row_filter: tenant_id = 1}}"))
    assert not of_kind(written, "GRANT")
    assert any("no row security on a relation of this kind" in note for note in notes(written))


def test_every_table_is_expanded_and_a_named_one_keeps_its_own_entry():
    tables = 'tables: {"*": {select: true}, orders: {select: [id]}}'
    granted = of_kind(script(agent(tables)), "GRANT SELECT")
    assert 'GRANT SELECT ("id") ON "public"."orders" TO "agent";' in granted
    assert any('"hr"."salaries"' in line for line in granted)
    assert not any("orders_2024" in line for line in granted)  # a child of orders


def test_functions_are_granted_by_signature():
    written = script(agent("tables: {}\nfunctions: [public.order_total]"))
    assert 'GRANT EXECUTE ON ROUTINE "public"."order_total"("pg_catalog"."int4") TO "agent";' in written


def test_what_has_no_native_form_is_said_beside_the_role():
    keys = "tables: {}\nsettings: {statement_timeout: 5s}\nlimits: {rows: 10, rate: 2/s}\nrequire_where: true\nmode: observe"
    said = "\n".join(notes(script(agent(keys))))
    for word in (
        "settings.statement_timeout = 5s",
        "limits.rows = 10",
        "limits.rate",
        "require_where",
        "mode: observe",
    ):
        assert f"not in native form: {word}" in said


def test_the_proxys_user_keeps_its_rows_where_row_security_is_new():
    written = script(orders("select: true\nrow_filter: tenant_id = 1"))
    assert 'CREATE POLICY "pgfaucet service" ON "public"."orders" TO "svc" USING (true) WITH CHECK (true);' in written


def test_nothing_is_opened_for_a_user_who_is_held_back_already():
    text = orders("select: true\nrow_filter: tenant_id = 1")
    secured = replace(SERVICE, secured={20_020: frozenset({"pgfaucet service"})})
    for server in (secured, replace(SERVICE, is_member=True), replace(SERVICE, user_passes=True)):
        assert "pgfaucet service" not in "\n".join(statements(script(text, server)))


def test_names_that_cannot_be_roles_are_left_out_and_named():
    text = "roles:\n" + "".join(
        f"  {name}: {{database: shop, tables: {{orders: {{select: true}}}}}}\n"
        for name in ("none", "public", "pg_mine", "r" * 64, "taken")
    )
    written = script(
        text + "  all: {database: shop, access: full}\n", replace(SERVICE, unfit_roles={"taken": "it owns"})
    )
    assert not of_kind(written, "GRANT")
    assert len([note for note in notes(written) if note.startswith("--   not exported: ")]) == 6


def test_a_description_cannot_leave_its_comment():
    written = script(agent('tables: {}\ndescription: "x\\n; drop table orders; --"'))
    assert "-- role agent: x ; drop table orders; --" in written


def test_a_claim_that_cannot_be_a_setting_is_named():
    text = orders("select: true\nrow_filter: note = claim('org-id')")
    assert "-- claim org-id: no setting can have this name" in script(text)
    assert "org-id" not in script(text, **{"org-id": "x"})
