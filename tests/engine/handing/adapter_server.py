"""A base with an adapter behind an interface like OpenAI's, by transformers and peft alone.

Run as a module in a process of its own: python -m tests.engine.handing.adapter_server BASE ADAPTER NAME PORT. It knows nothing of
LiIT, and the model by NAME only, as vLLM does.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.engine.handing.fresh import loaded, written


class Server(HTTPServer):
    model: Any
    processor: Any
    name: str


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._say(200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] != self.server.name:
            self._say(404, {"error": f"no model {body['model']}"})
            return
        assert body["temperature"] == 0
        messages = [{**one, "content": shown(one["content"])} for one in body["messages"]]
        text = written(self.server.model, self.server.processor, messages, body["max_tokens"])
        self._say(200, {"choices": [{"message": {"role": "assistant", "content": text}}]})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


def shown(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As transformers takes it."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [{"type": "image", "url": part["image_url"]["url"]} if "image_url" in part else part for part in content]


if __name__ == "__main__":
    base, adapter, known_as, port = sys.argv[1:]
    serving = Server(("127.0.0.1", int(port)), Handler)
    serving.model, serving.processor = loaded(adapter, base)
    serving.name = known_as
    serving.serve_forever()
