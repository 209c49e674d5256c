from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from pgfaucet.audit import journal
from pgfaucet.audit.adminlog import admin_file, record
from pgfaucet.audit.journal import AuditInUse, AuditUnusable, Journal
from pgfaucet.audit.keys import load_keys, load_public_key
from pgfaucet.audit.record import SessionFields
from pgfaucet.audit.verify import verify_log
from pgfaucet.config import AuditConfig

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000.0
FIELDS = SessionFields("", "", "root", "pgfaucet token", "", "fct_abc", "agent:1", "desk", (("tenant", "42"),))


@pytest.fixture
def config(tmp_path: Path) -> AuditConfig:
    return AuditConfig(tmp_path / "audit.jsonl", tmp_path / "audit.key")


def write(config: AuditConfig, count: int = 1) -> None:
    record(config, [("token_created", FIELDS, "by root")] * count, lambda: NOW)


def test_each_command_goes_on_with_the_chain_and_signs_its_end(config: AuditConfig):
    write(config, 2)
    write(config)
    path = admin_file(config.file)
    assert path.name == "audit.admin.jsonl"
    verdict = verify_log(path, load_public_key(config.key.with_name("audit.key.pub")))
    assert (verdict.records, verdict.checkpoints, verdict.attested, verdict.broken) == (3, 2, 3, None)
    made = orjson.loads(path.read_bytes().splitlines()[0])
    shown = {name: made[name] for name in ("event", "token_id", "role", "claims", "user", "reason", "decision")}
    assert shown == {
        "event": "token_created",
        "token_id": "fct_abc",
        "role": "desk",
        "claims": {"tenant": "42"},
        "user": "root",
        "reason": "by root",
        "decision": "allow",
    }


WRITER = """
import sys, time
from pathlib import Path
from pgfaucet.audit.adminlog import record
from pgfaucet.audit.record import SessionFields
from pgfaucet.config import AuditConfig
path = Path(sys.argv[1])
for _ in range(5):
    record(AuditConfig(path, path.with_name("audit.key")), [("token_created", SessionFields("", "", "", "", ""), "")], time.time)
"""


def test_commands_that_run_at_once_wait_for_each_other(config: AuditConfig):
    running = [subprocess.Popen([sys.executable, "-c", WRITER, config.file]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    verdict = verify_log(admin_file(config.file), load_public_key(config.key.with_name("audit.key.pub")))
    assert (verdict.records, verdict.broken) == (20, None)


def test_a_log_that_stays_in_use_is_told(config: AuditConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "LOCK_SECONDS", 0.05)
    held = Journal(admin_file(config.file), load_keys(config.key).signing, "2026-05-05T14:32:18.412Z")
    with pytest.raises(AuditInUse, match="another process"):
        write(config)
    held.close()
    write(config)


def test_a_log_that_was_edited_is_not_continued(config: AuditConfig):
    write(config, 2)
    path = admin_file(config.file)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(AuditUnusable, match="cut off"):
        write(config)
