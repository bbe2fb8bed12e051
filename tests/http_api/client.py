#!/usr/bin/env python3
"""A client as customers of the former service wrote it: field names, query names, JSON fields, headers
and statuses are those of its FastAPI routes. Nothing in it knows what answers.

    client.py BASE_URL PHOTO TABLE

Exits with a traceback at the first answer that such a client could not use; writes a table of what it
asked and was told to TABLE (Markdown).
"""

from __future__ import annotations

import base64
import io
import json
import pathlib
import struct
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Set-up places the clients as wheels of pure Python, which are importable as they are.
sys.path[:0] = [str(wheel) for wheel in (ROOT / ".cache" / "lib" / "python").glob("*.whl")]

import httpx  # noqa: E402
import requests  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

EFFECTS = ["color", "enhancedblackwhite", "popart", "dithering", "retro8bit"]
PNG = b"\x89PNG\r\n\x1a\n"

rows: list[tuple[str, str, str]] = []


def told(request: str, response, answer: str = "") -> None:
    """A row of the table."""
    kind = response.headers.get("content-type", "").split(";")[0]
    if not answer:
        answer = f"`{response.text}`" if kind == "application/json" else kind
    headers = [
        f"`{name}: {response.headers[name]}`"
        for name in ("X-Effect", "X-Effects-Count", "X-Cache-Hits", "Cache-Control", "Retry-After", "Allow")
        if name in response.headers
    ]
    rows.append((request, str(response.status_code), "<br>".join([answer, *headers])))


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == PNG, png[:16]
    return struct.unpack(">II", png[16:24])


def fields(answer: dict) -> str:
    """A JSON answer's fields, for the table."""
    return "`{" + ", ".join(answer) + "}`"


def remove_background(base: str, photo: pathlib.Path) -> None:
    with photo.open("rb") as file:
        response = requests.post(
            f"{base}/remove-background",
            files={"file": ("rex.jpg", file, "image/jpeg")},
            timeout=120,
        )
    response.raise_for_status()
    assert response.headers["Content-Type"] == "image/png"
    assert float(response.headers["X-Processing-Time"]) > 0
    assert response.headers["X-Cache-Hits"] == "0"
    whole = response.content
    width, height = size(whole)
    assert width > 100 and height > 100
    told("`POST /remove-background`, form `file`", response, f"PNG {width}×{height}")

    response = httpx.post(
        f"{base}/remove-background",
        files={"file": photo.read_bytes()},
        data={"output_format": "webp", "quality": "95", "use_cache": "true"},
        timeout=120,
    )
    response.raise_for_status()
    assert response.headers["content-type"] == "image/webp"
    assert response.content[8:12] == b"WEBP"
    assert response.headers["x-cache-hits"] == "1", "the second of the same is cached"
    told("the same again, form `output_format=webp`", response)

    response = requests.post(
        f"{base}/remove-background?use_cache=false",
        data=photo.read_bytes(),
        headers={"Content-Type": "image/jpeg"},
        timeout=120,
    )
    assert response.content == whole, "a raw body is the same photo"
    assert response.headers["X-Cache-Hits"] == "0"
    told("`POST /remove-background?use_cache=false`, the photo as the body", response, "PNG")

    def chunks():
        data = photo.read_bytes()
        for start in range(0, len(data), 10_000):
            yield data[start : start + 10_000]

    response = requests.post(f"{base}/remove-background", data=chunks(), timeout=120)
    assert response.content == whole, "a body of unknown length too"


def process(base: str, photo: pathlib.Path) -> None:
    response = requests.post(
        f"{base}/api/v2/process",
        params={"session_id": "rex-1"},
        files={"file": photo.open("rb")},
        timeout=120,
    )
    response.raise_for_status()
    assert response.headers["X-Effect"] == "enhancedblackwhite"
    assert response.headers["X-Session-ID"] == "rex-1"
    assert response.headers["X-Available-Effects"].split(",") == EFFECTS
    assert float(response.headers["X-Processing-Time"]) > 0
    grey = response.content
    told("`POST /api/v2/process`", response, "PNG")

    response = requests.post(
        f"{base}/api/v2/process",
        params={"effect": "enhancedblackwhite", "effect_params": json.dumps({"grain": 0})},
        files={"file": photo.open("rb")},
        timeout=120,
    )
    response.raise_for_status()
    assert response.content != grey, "a parameter changes the picture"
    assert len(response.headers["X-Session-ID"]) >= 16, "a session id is made up"
    told("`POST /api/v2/process?effect_params={\"grain\":0}`", response, "PNG")

    for effect in EFFECTS:
        response = requests.post(
            f"{base}/api/v2/process",
            params={"effect": effect},
            files={"file": photo.open("rb")},
            timeout=120,
        )
        response.raise_for_status()
        size(response.content)
        assert response.headers["X-Effect"] == effect

    for query, status in [
        ({"effect": "sepia"}, 400),
        ({"effect_params": "{grain"}, 400),
        ({"effect_params": '{"colour": 1}'}, 400),
        ({"output_format": "tiff"}, 400),
        ({"quality": "best"}, 422),
        ({"use_cache": "maybe"}, 422),
        ({"session_id": "../../etc"}, 400),
    ]:
        response = requests.post(
            f"{base}/api/v2/process", params=query, files={"file": photo.open("rb")}, timeout=120
        )
        assert response.status_code == status, (query, response.status_code, response.text)
        answer = response.json()
        assert set(answer) == {"detail", "code"} and answer["detail"], answer
        ((name, value),) = query.items()
        told(f"`POST /api/v2/process?{name}={value}`", response)
        if name == "effect":
            assert all(effect in answer["detail"] for effect in EFFECTS), answer


def with_effects(base: str, photo: pathlib.Path) -> None:
    response = requests.post(
        f"{base}/api/v2/process-with-effects?return_all_effects=true"
        "&effects=enhancedblackwhite,popart,dithering,color",
        files={"file": photo.open("rb")},
        timeout=120,
    )
    response.raise_for_status()
    answer = response.json()
    assert answer["success"] is True
    assert list(answer["effects"]) == ["enhancedblackwhite", "popart", "dithering", "color"]
    sizes = {name: size(base64.b64decode(picture)) for name, picture in answer["effects"].items()}
    assert len(set(sizes.values())) == 1, sizes
    assert set(answer["processing_time"]) == {"total", "background_removal", "effects_processing"}
    assert answer["cache_info"]["total_cache_hits"] == 1
    assert answer["cache_info"]["total_operations"] == 5
    assert answer["session_id"] == response.headers["X-Session-ID"]
    assert answer["total_effects"] == 4
    assert answer["failed_effects"] is None
    assert answer["progressive_mode"] is False
    assert response.headers["X-Effects-Count"] == "4"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Content-Encoding"] == "gzip", "requests accepts it"
    told(
        "`POST /api/v2/process-with-effects?return_all_effects=true&effects=enhancedblackwhite,popart,dithering,color`",
        response,
        fields(answer),
    )

    response = requests.post(
        f"{base}/api/v2/process-with-effects",
        params={"load_single_effect": "true", "effect": "popart"},
        files={"file": photo.open("rb")},
        timeout=120,
    )
    answer = response.json()
    assert list(answer["effects"]) == ["popart"]
    assert answer["progressive_mode"] is True
    told("`POST /api/v2/process-with-effects?load_single_effect=true&effect=popart`", response, fields(answer))

    response = requests.post(
        f"{base}/api/v2/process-with-effects",
        params={"return_all_effects": "true"},
        files={"file": photo.open("rb")},
        data={"form_effects": "dithering"},
        timeout=120,
    )
    assert list(response.json()["effects"]) == ["dithering"]
    told("`POST /api/v2/process-with-effects?return_all_effects=true`, form `form_effects=dithering`", response, fields(response.json()))

    response = requests.post(
        f"{base}/api/v2/process-with-effects",
        params={"effect": "dithering"},
        files={"file": photo.open("rb")},
        timeout=120,
    )
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["X-Effect"] == "dithering"
    told("`POST /api/v2/process-with-effects?effect=dithering`", response, "PNG")

    response = requests.post(
        f"{base}/api/v2/process-with-effects?return_all_effects=true&effects=popart,sepia",
        files={"file": photo.open("rb")},
        timeout=120,
    )
    assert response.status_code == 400
    told("`…&effects=popart,sepia`", response)


def refusals(base: str, photo: pathlib.Path) -> None:
    def post(request: str, status: int, code: str, **arguments) -> None:
        response = requests.post(f"{base}/remove-background", timeout=120, **arguments)
        assert response.status_code == status, (request, response.status_code, response.text)
        answer = response.json()
        assert set(answer) == {"detail", "code"}, answer
        assert answer["code"] == code, (request, answer)
        told(f"`POST /remove-background`, {request}", response)

    post("form without `file`", 422, "missing_file", files={"image": photo.open("rb")})
    post("a text as the file", 400, "unsupported_format", files={"file": ("rex.jpg", b"not a photo", "image/jpeg")})
    post("half a photo", 400, "image_corrupt", files={"file": photo.read_bytes()[:5000]})
    post("an empty file", 400, "empty_file", files={"file": b""})
    post("JSON", 415, "unsupported_media_type", json={"url": "http://169.254.169.254/"})
    post("a form that is none", 400, "malformed_form", data=b"x", headers={"Content-Type": "multipart/form-data; boundary=y"})
    post("more bytes than allowed", 413, "file_too_large", data=io.BytesIO(b"\xff" * 3_000_000))
    response = requests.get(f"{base}/remove-background", timeout=120)
    assert response.status_code == 405 and "POST" in response.headers["Allow"]
    told("`GET /remove-background`", response)


def telling(base: str) -> None:
    response = requests.get(f"{base}/", timeout=120)
    assert response.json()["service"] == "cutout"
    assert "POST /remove-background" in response.json()["endpoints"]
    told("`GET /`", response, fields(response.json()))
    for path, names in [
        ("/health", {"status", "timestamp", "model", "storage_connected", "memory", "endpoints"}),
        ("/startup", {"status", "model_loaded"}),
        ("/model-info", {"model", "state"}),
        ("/api/v2", {"service", "version", "effects"}),
        ("/api/v2/", {"service", "version", "effects"}),
        ("/api/v2/effects", {"effects"}),
        ("/api/v2/effect/popart", {"name", "description"}),
        ("/api/v2/effect/optimized_popart", {"name", "description"}),
        ("/api/v2/stats", {"uptime_seconds", "cache"}),
        ("/api/v2/health/detailed", {"status", "model", "api"}),
        ("/openapi.json", {"openapi", "paths"}),
        ("/api/v2/ws/enhanced-progress/rex", {"message", "session_id"}),
        ("/ws/enhanced-progress/rex", {"message", "session_id"}),
        ("/ws/progress/rex", {"message", "session_id"}),
    ]:
        response = requests.get(base + path, timeout=120)
        assert response.status_code == 200, (path, response.text)
        assert names <= set(response.json()), (path, response.text)
        told(f"`GET {path}`", response, fields(response.json()))
    response = requests.get(f"{base}/metrics", timeout=120)
    assert "cutout_http_requests_total" in response.text
    told("`GET /metrics`", response)
    for path in ["/warmup", "/load-model"]:
        response = requests.post(base + path, timeout=120)
        assert response.status_code in (200, 202), response.text
        told(f"`POST {path}`", response, fields(response.json()))
    response = requests.get(f"{base}/api/v2/effect/sepia", timeout=120)
    assert response.status_code == 404
    told("`GET /api/v2/effect/sepia`", response)
    response = requests.get(f"{base}/nothing", timeout=120)
    assert response.status_code == 404
    told("`GET /nothing`", response)


def cross_origin(base: str, photo: pathlib.Path) -> None:
    page = "https://perkie.myshopify.com"
    response = requests.options(
        f"{base}/api/v2/process",
        headers={
            "Origin": page,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-requested-with",
        },
        timeout=120,
    )
    assert response.status_code == 200, response.status_code
    assert response.headers["Access-Control-Allow-Origin"] == page
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    told("`OPTIONS /api/v2/process` of an allowed page", response, f"`Access-Control-Allow-Origin: {page}`")
    # An error must be readable too: without the header a page is told nothing but "CORS failure".
    response = requests.post(
        f"{base}/remove-background", files={"x": b""}, headers={"Origin": page}, timeout=120
    )
    assert response.status_code == 422
    assert response.headers["Access-Control-Allow-Origin"] == page
    assert "x-processing-time" in response.headers["Access-Control-Expose-Headers"].lower()
    response = requests.post(
        f"{base}/remove-background",
        files={"file": photo.open("rb")},
        headers={"Origin": "https://evil.example"},
        timeout=120,
    )
    assert "Access-Control-Allow-Origin" not in response.headers


def identity(base: str) -> None:
    response = requests.get(f"{base}/api/v2/", headers={"X-Request-ID": "order-5512"}, timeout=120)
    assert response.headers["X-Request-ID"] == "order-5512"
    response = requests.get(f"{base}/api/v2/", headers={"X-Request-ID": "a b<c>"}, timeout=120)
    assert len(response.headers["X-Request-ID"]) == 32


def progress(base: str, photo: pathlib.Path) -> None:
    events: list[dict] = []
    url = base.replace("http://", "ws://") + "/ws/enhanced-progress/rex-progress"
    with connect(url) as socket:
        socket.send('{"type":"ping"}')
        first, pong = json.loads(socket.recv(30)), json.loads(socket.recv(30))
        assert first["stage"] == "connected" and pong == {"type": "pong"}, (first, pong)

        def post() -> None:
            requests.post(
                f"{base}/api/v2/process-with-effects",
                params={
                    "return_all_effects": "true",
                    "effects": "popart,color,dithering",
                    "session_id": "rex-progress",
                    "use_cache": "false",
                },
                files={"file": photo.open("rb")},
                timeout=120,
            ).raise_for_status()

        work = threading.Thread(target=post)
        work.start()
        while not events or events[-1]["stage"] not in ("done", "error"):
            events.append(json.loads(socket.recv(60)))
        work.join()
    for event in events:
        assert {"stage", "progress", "message", "timestamp"} <= set(event), event
    stages = [event["stage"] for event in events]
    for stage in ("upload", "decode", "infer", "compose", "effects", "done"):
        assert stage in stages, stages
    steps = [event["progress"] for event in events]
    assert steps == sorted(steps) and steps[-1] == 100, steps
    rows.append(
        (
            "WebSocket `/ws/enhanced-progress/{session_id}`",
            "101",
            "events of the stages " + ", ".join(dict.fromkeys(stages)),
        )
    )


def curl(base: str, photo: pathlib.Path) -> None:
    """The lines of the production docs, as they stand."""
    lines = [
        ["-F", f"file=@{photo}", f"{base}/remove-background"],
        ["-F", f"file=@{photo}", "-F", "output_format=png", "-F", "use_cache=true", f"{base}/remove-background"],
        ["-X", "POST", "--data-binary", f"@{photo}", "-H", "Content-Type: image/jpeg", f"{base}/remove-background"],
        ["-X", "POST", "--data-binary", f"@{photo}", f"{base}/remove-background"],
        ["-X", "POST", "-T", str(photo), f"{base}/remove-background"],
        ["-F", f"file=@{photo}", f"{base}/api/v2/process?effect=popart"],
    ]
    for line in lines:
        ended = subprocess.run(["curl", "-sS", "--fail", *line], capture_output=True, check=False)
        assert ended.returncode == 0, (line, ended.stderr)
        size(ended.stdout)


def main() -> None:
    base, photo, table = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    remove_background(base, photo)
    process(base, photo)
    with_effects(base, photo)
    refusals(base, photo)
    telling(base)
    cross_origin(base, photo)
    identity(base)
    progress(base, photo)
    curl(base, photo)
    lines = ["| request | status | answer |", "| --- | --- | --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
