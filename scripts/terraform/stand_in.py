#!/usr/bin/env python3
"""A stand-in for the Google provider that knows the schema and nothing else.

    python3 -m terraform.stand_in COMMAND [ARGUMENT...]

Runs the command with TF_REATTACH_PROVIDERS set, by which Terraform talks to a provider that runs already. So
`terraform validate` works without the provider's program, and `terraform test` with mock_provider, which
makes up what resources would answer. Real plans and applies do not: whatever else Terraform asks is refused.

The protocol is Terraform's plugin protocol 5, protobuf messages over gRPC
(https://github.com/hashicorp/terraform/tree/main/docs/plugin-protocol); the few messages that are needed are
written here byte by byte, and h2 speaks HTTP/2, so that all of it is Python without libraries in C.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from provision.pins import HTTP2

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Path(__file__).with_name("schema.json")
PROVIDER = "registry.terraform.io/hashicorp/google"

for _wheel in HTTP2:
    _path = ROOT / ".cache" / _wheel.path
    if not _path.is_file():
        sys.exit(f"{_path.name} is missing: run `python3 scripts/setup.py terraform`")
    sys.path.insert(0, str(_path))

import h2.config  # noqa: E402
import h2.connection  # noqa: E402
import h2.events  # noqa: E402

_LIST = 2  # Schema.NestedBlock.NestingMode
_PROVIDER_ARGUMENTS = {
    "project": "string",
    "region": "string",
    "billing_project": "string",
    "user_project_override": "bool",
}
"""Those of the provider block that the examples use; the packages that the schema is from lack it."""


def main(command: list[str]) -> int:
    if not command:
        print(__doc__)
        return 2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, answers()), daemon=True).start()
        address = {"Network": "tcp", "String": f"127.0.0.1:{listener.getsockname()[1]}"}
        provider = {
            "Protocol": "grpc",
            "ProtocolVersion": 5,
            "Pid": os.getpid(),
            "Test": True,
            "Addr": address,
        }
        environment = {**os.environ, "TF_REATTACH_PROVIDERS": json.dumps({PROVIDER: provider})}
        return subprocess.run(command, env=environment).returncode


# ---- Protobuf -------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value) if value else b""


def data(tag: int, value: bytes) -> bytes:
    """A text, bytes, or a message inside."""
    return varint(tag << 3 | 2) + varint(len(value)) + value


def attribute(name: str, entry: dict) -> bytes:
    kind = {"map": ["map", "string"], "any": "string"}.get(entry["kind"], entry["kind"])
    kind = ["list", kind] if entry["many"] else kind
    told = bool(entry.get("computed"))
    # What is optional may be told as well where it is left out: the id, for one.
    either = not entry["required"] and name in ("id", "project")
    return (
        data(1, name.encode())
        + data(2, json.dumps(kind).encode())
        + number(4, entry["required"])
        + number(5, not entry["required"] and not told)
        + number(6, told or either)
    )


def block(arguments: dict) -> bytes:
    out = b""
    for name, entry in sorted(arguments.items()):
        if entry["kind"] == "block":
            most = 0 if entry["many"] else 1
            nested = data(1, name.encode()) + data(2, block(entry["block"])) + number(3, _LIST)
            out += data(3, nested + number(4, entry["required"]) + number(5, most))
        else:
            out += data(2, attribute(name, entry))
    return out


def schema_of_all() -> bytes:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    own = {
        name: {"kind": kind, "many": False, "required": False} for name, kind in _PROVIDER_ARGUMENTS.items()
    }
    out = data(1, data(2, block(own)))
    for tag, kind in ((2, "resource"), (3, "data")):
        for name, arguments in schema[kind].items():
            out += data(tag, data(1, name.encode()) + data(2, data(2, block(arguments))))
    return out


def answers():
    """The answer to a call, by its name and what it was sent; None for what a stand-in cannot do."""
    schema = schema_of_all()
    nothing = {"ValidateResourceTypeConfig", "ValidateDataSourceConfig", "Configure", "Stop"}

    def answer(path: str, request: bytes) -> bytes | None:
        service, _, call = path.lstrip("/").partition("/")
        if service != "tfplugin5.Provider":
            return None
        if call == "GetSchema":
            return schema
        if call == "PrepareProviderConfig":
            return request  # the configuration, in the same field of the answer
        return b"" if call in nothing else None

    return answer


# ---- gRPC -----------------------------------------------------------------------------------------


def accept(listener: socket.socket, answer) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # closed: the command has ended
        threading.Thread(target=converse, args=(connection, answer), daemon=True).start()


def converse(connection: socket.socket, answer) -> None:
    """Serves one connection: each stream is a call with one message in and one out."""
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    http.initiate_connection()
    connection.sendall(http.data_to_send())
    paths: dict[int, str] = {}
    requests: dict[int, bytes] = {}
    waiting: dict[int, bytes] = {}
    # Terraform drops a connection without a word when it is done with it.
    with connection, contextlib.suppress(ConnectionError):
        while received := connection.recv(1 << 16):
            for event in http.receive_data(received):
                stream = getattr(event, "stream_id", None)
                if isinstance(event, h2.events.RequestReceived):
                    paths[stream] = dict(event.headers)[":path"]
                    requests[stream] = b""
                    if not paths[stream].startswith("/tfplugin5.Provider/"):
                        # Side channels of the plugin library, which stay open: they are not here.
                        refuse(http, stream)
                        paths.pop(stream)
                elif isinstance(event, h2.events.DataReceived):
                    requests[stream] = requests.get(stream, b"") + event.data
                    http.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, h2.events.StreamEnded) and stream in paths:
                    message = answer(paths.pop(stream), requests.pop(stream)[5:])
                    if message is None:
                        refuse(http, stream)
                        continue
                    http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
                    # A byte for "not compressed" and four for the length come before each message.
                    waiting[stream] = b"\0" + len(message).to_bytes(4, "big") + message
                elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    waiting.pop(stream, None)
            for stream in list(waiting):
                send(http, stream, waiting)
            connection.sendall(http.data_to_send())


def send(http, stream: int, waiting: dict[int, bytes]) -> None:
    """Sends as much as the other side's window lets through, and the end when all is through."""
    while waiting[stream]:
        room = min(http.local_flow_control_window(stream), http.max_outbound_frame_size)
        if room <= 0:
            return
        http.send_data(stream, waiting[stream][:room])
        waiting[stream] = waiting[stream][room:]
    del waiting[stream]
    http.send_headers(stream, [("grpc-status", "0")], end_stream=True)


def refuse(http, stream: int) -> None:
    """UNIMPLEMENTED."""
    headers = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]
    http.send_headers(stream, headers, end_stream=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
