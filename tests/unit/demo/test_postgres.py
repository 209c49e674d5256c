from __future__ import annotations

from pgfaucet.demo.postgres import PostgresServer, _is_ready, clean_environment, free_port


def test_the_environment_for_programs_has_nothing_that_redirects_them(monkeypatch):
    for name in ("PGHOST", "PGPORT", "PGSERVICE", "PGOPTIONS", "PGPASSWORD"):
        monkeypatch.setenv(name, "elsewhere")
    environment = clean_environment()
    assert "elsewhere" not in environment.values()
    assert environment["PGPASSFILE"] == "/dev/null"


def test_only_the_superuser_gets_the_superusers_password():
    server = PostgresServer()
    server.port = 5
    assert server.dsn("db") == f"postgresql://postgres:{server.password}@127.0.0.1:5/db"
    assert server.dsn("db", "other") == "postgresql://other@127.0.0.1:5/db"


def test_a_server_is_ready_when_its_own_pid_file_says_so(tmp_path):
    pid_file = tmp_path / "postmaster.pid"
    assert not _is_ready(tmp_path, 7)
    lines = ["7", "/data", "1", "5432", "", "127.0.0.1", "shm", "starting"]
    pid_file.write_text("\n".join(lines))
    assert not _is_ready(tmp_path, 7)
    pid_file.write_text("\n".join([*lines[:7], "ready   "]))
    assert _is_ready(tmp_path, 7)
    assert not _is_ready(tmp_path, 8)


def test_stopping_a_server_that_never_started_does_nothing():
    PostgresServer().stop()


def test_free_ports_differ_while_taken():
    assert 1024 <= free_port() <= 65535
