from __future__ import annotations

import pytest

from tests.kit.policy_files import agent, load_text, orders, said_about


def dsn_of(dsn: str, environ: dict[str, str]) -> str:
    return load_text(f'databases: {{d: {{dsn: "{dsn}"}}}}', environ).config.databases["d"].dsn


def test_a_reference_is_replaced_in_databases():
    assert dsn_of("postgresql://${USER}@${HOST}/d", {"USER": "me", "HOST": "db"}) == "postgresql://me@db/d"


def test_a_reference_is_replaced_in_server():
    server = load_text("server: {admin: '${ADMIN}', audit: {file: '${STATE}/a'}}", {"ADMIN": "[::1]:1", "STATE": "/s"})
    assert str(server.config.server.admin) == "[::1]:1"
    assert str(server.config.server.audit.file) == "/s/a"


@pytest.mark.parametrize("environ", [{}, {"HOST": ""}])
def test_a_default_stands_in_for_what_is_not_set_or_empty(environ: dict[str, str]):
    assert dsn_of("postgresql://${HOST:-localhost}/d", environ) == "postgresql://localhost/d"
    assert dsn_of("postgresql://h/d${REST:-}", environ) == "postgresql://h/d"


def test_what_a_variable_holds_is_not_looked_into():
    assert dsn_of("postgresql://h/${A}", {"A": "${B}", "B": "no"}) == "postgresql://h/${B}"


def test_what_a_variable_holds_cannot_add_keys():
    database = load_text("databases: {d: {dsn: '${DSN}'}}", {"DSN": "postgresql://h/d\npassword: x"}).config.databases[
        "d"
    ]
    assert database.password is None


def test_a_variable_that_is_not_set_is_an_error_at_its_place():
    assert said_about("databases:\n  d:\n    dsn: postgresql://svc@${HOST}/d\n") == [
        "a.yaml:3:27: the environment variable HOST is not set; set it, or write ${HOST:-default}"
    ]


def test_a_variable_that_is_empty_is_not_a_value():
    assert said_about("databases:\n  d: {dsn: '${DSN}'}\n", {"DSN": ""}) == [
        "a.yaml:2:12: this has no value; write one, or remove the key"
    ]


@pytest.mark.parametrize("text", ["${}", "${PASS WORD}", "${1A}", "${A", "${A:+x}"])
def test_what_begins_like_a_reference_must_be_one(text: str):
    assert said_about(f"databases:\n  d: {{dsn: postgresql://h/d, password: 'x{text}'}}\n", {"A": "1"}) == [
        "a.yaml:2:42: ${ begins no environment variable here; write ${NAME} or ${NAME:-default}"
    ]


def test_a_dollar_alone_is_a_dollar():
    assert dsn_of("postgresql://u:pa$$w0rd$@h/d", {}) == "postgresql://u:pa$$w0rd$@h/d"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (orders("""row_filter: "tenant = '${TENANT}'" """), "6:32"),
        (agent("description: for ${NAME:-x}"), "4:22"),
        (agent("settings: {statement_timeout: '${T}'}"), "4:36"),
    ],
)
def test_roles_never_read_the_environment(text: str, place: str):
    assert (
        f"a.yaml:{place}: ${{...}} is not read from the environment in roles;"
        " write the value itself, or take it from the token with claim('...')"
    ) in said_about(text, {"TENANT": "42", "T": "5s"})


def test_tests_do_not_read_the_environment_either():
    text = agent("") + "tests: [{role: agent, claims: {tenant: '${TENANT}'}, allow: [select 1]}]\n"
    assert load_text(text, {"TENANT": "42"}).policy.tests[0].claims == {"tenant": "${TENANT}"}


def test_a_name_is_not_taken_from_the_environment():
    assert list(load_text("databases: {'${D}': {dsn: postgresql://h/d}}", {"D": "x"}).config.databases) == [
        "${D}",
        "shop",
    ]


def test_no_error_shows_what_a_variable_of_a_dsn_holds():
    said = said_about("databases:\n  d: {dsn: '${DSN}'}\n", {"DSN": "mysql:hunter2"})
    assert len(said) == 1
    assert "hunter2" not in said[0]
