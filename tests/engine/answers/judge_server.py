"""A real HTTP server that answers as a model behind an interface like OpenAI's does."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[str, int], tuple[int, str]]
"""Of a prompt and how often it has been asked before: HTTP status and what the judge writes."""


class Server(ThreadingHTTPServer):
    reply: Reply
    requests: list[dict[str, Any]]
    asked: Counter[str]
    open_now = 0
    most_open = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.open_now += 1
        self.server.most_open = max(self.server.most_open, self.server.open_now)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "key": self.headers["Authorization"], **body})
        text = body["messages"][0]["content"]
        status, said = self.server.reply(text, self.server.asked[text])
        self.server.asked[text] += 1
        time.sleep(0.02)
        self.server.open_now -= 1
        self.send_response(status)
        if status == 302:
            self.send_header("Location", said)
        self.end_headers()
        turn = {"choices": [{"message": {"role": "assistant", "content": said}}]}
        self.wfile.write(json.dumps(turn).encode() if status == 200 else b"no")

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def judge(reply: Reply) -> Iterator[tuple[Server, dict[str, Any]]]:
    server = Server(("127.0.0.1", 0), Handler)
    server.reply, server.requests, server.asked = staticmethod(reply), [], Counter()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        port = server.server_address[1]
        yield (
            server,
            {
                "base_url": f"http://127.0.0.1:{port}/v1",
                "model": "judge-1",
                "prompt": "{question}|{reference}|{answer}",
            },
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
