"""The line to a mint. It passes everything on, and loses the answer to the next swap when it is told to: `POST /__lose`. The
mint has then done everything; only who asked does not know. `GET /__swaps` counts the swaps that were passed on."""

import json
import os
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MINT_URL = os.environ["MINT_URL"]


class Line:
    lock = threading.Lock()
    loses = False
    swaps = 0


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/__swaps":
            return self.tell(200, json.dumps({"swaps": Line.swaps}).encode())
        return self.pass_on(None)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/__lose":
            Line.loses = True
            return self.tell(200, b"{}")
        return self.pass_on(body)

    def pass_on(self, body):
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(MINT_URL + self.path, body, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, said = answer.status, answer.read()
        except urllib.error.HTTPError as answer:
            status, said = answer.code, answer.read()
        if self.path == "/v1/swap":
            with Line.lock:
                Line.swaps += 1
                loses, Line.loses = Line.loses, False
            if loses:
                self.close_connection = True
                return
        self.tell(status, said)

    def tell(self, status, said):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
