"""An identity provider of one's own: signs tokens, and serves its keys on a loopback port."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec


class Issuer:
    """Signs with one key at a time; a context manager."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.requests = 0
        self.rotate("first")
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                body = issuer.key_set()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Where it is; also its name."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def rotate(self, key_id: str) -> None:
        """Sign with a new key from now on; the old ones are withdrawn."""
        self.key_id = key_id
        self.keys = {key_id: ec.generate_private_key(ec.SECP256R1())}

    def key_set(self) -> bytes:
        """Write the public keys as a JSON Web Key Set."""
        written = [
            json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": key_id}
            for key_id, key in self.keys.items()
        ]
        return json.dumps({"keys": written}).encode()

    def token(self, *, key: Any = None, algorithm: str = "ES256", ttl: float = 60.0, **changes: Any) -> str:
        """Sign a token for the desk of tenant 42; a claim that is None is left out."""
        now = time.time()
        claims = {
            "iss": self.address,
            "aud": "pgfaucet",
            "sub": "ann",
            "iat": now,
            "exp": now + ttl,
            "groups": ["staff", "support"],
            "org_id": 42,
        } | changes
        held = {name: value for name, value in claims.items() if value is not None}
        signer = key if key is not None else self.keys[self.key_id]
        return jwt.encode(held, signer, algorithm=algorithm, headers={"kid": self.key_id})
