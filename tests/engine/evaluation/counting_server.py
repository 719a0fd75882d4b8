"""A server with an interface like OpenAI's and no model, that fails where it is told to: python counting_server.py PORT FOLDER.

FOLDER/fails.json: by question, what its first requests get, one after the other: an HTTP status (with 200 no chat's turn), or 0
for a connection that is cut. Then it is answered. FOLDER/requests.jsonl has the question of every request.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._say(200, "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        with LOCK:
            status = fails[question].pop(0) if fails.get(question) else None
            with (FOLDER / "requests.jsonl").open("a") as stream:
                stream.write(json.dumps(question) + "\n")
        if status is None:
            turn = {"choices": [{"message": {"role": "assistant", "content": f" {question} {body['max_tokens']}\n"}}]}
            self._say(200, json.dumps(turn))
        elif status:
            self._say(status, "out of\nluck " * 100)

    def _say(self, status: int, body: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())


if __name__ == "__main__":
    fails: dict[str, list[int]] = json.loads((FOLDER / "fails.json").read_text())
    sys.stderr.write(f"pid {os.getpid()}\n")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
