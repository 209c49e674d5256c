"""A minimal client of the Model Context Protocol over stdio: JSON-RPC 2.0, one message a line."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import Any, Self


class McpClient:
    """Starts an MCP server, initialises it, calls its tools; a context manager."""

    def __init__(self, command: list[str], environment: dict[str, str], *, timeout: float = 30.0) -> None:
        self._timeout = timeout
        self._number = 0
        self._lines: queue.Queue[str] = queue.Queue()
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        hello = {
            "protocolVersion": "2024-11-05",
            "capabilities": {},
            "clientInfo": {"name": "pgfaucet-tests", "version": "1"},
        }
        self.call("initialize", hello)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a method; return its result; raises McpError."""
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": parameters or {}})
        while True:
            answer = json.loads(self._lines.get(timeout=self._timeout))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise McpError(answer["error"]["message"])
                return answer["result"]

    def tool(self, name: str, **arguments: Any) -> str:
        """Call a tool; return its text; raises McpError when the tool says that it failed."""
        result = self.call("tools/call", {"name": name, "arguments": arguments})
        text = "".join(part["text"] for part in result["content"])
        if result.get("isError"):
            raise McpError(text)
        return text

    def _send(self, message: dict[str, Any]) -> None:
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        for line in self._process.stdout:
            if line.startswith("{"):
                self._lines.put(line)


class McpError(Exception):
    """What the server answered instead of a result."""
