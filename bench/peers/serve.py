"""A peer as a process that stays warm, or as one that cuts a single photo out and ends.

    serve.py rembg MODEL.onnx                    serves, in its environment's Python
    serve.py transparent-background:base CHECKPOINT.pth
    serve.py … --once PHOTO OUT.png              one photo; OUT.png appears when it is complete

Serving, it prints a line of JSON when it is ready, and then one for each line that it reads:
{"tasks": [[photo, out], …]} in, {"seconds": [each photo's]} out. Bytes of a file in, bytes of a PNG
out, as the worker does it. Run as a file: it imports nothing of this package, so that a fresh
process loads what the peer loads and nothing more.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time


def rembg(model: str):
    # rembg takes weights of one's own only from below its home folder.
    os.environ["REMBG_HOME"] = os.path.dirname(os.path.abspath(model))
    import rembg

    # `dis_custom` is rembg's ISNet for a file of one's own. It feeds x/max - 0.5, where the worker
    # feeds (x - 128)/256: the same network at the same size, inputs apart by at most 1/256.
    session = rembg.new_session(
        "dis_custom", model_path=os.path.abspath(model), providers=["CPUExecutionProvider"]
    )
    return lambda photo: rembg.remove(photo, session=session)


def transparent_background(mode: str, checkpoint: str):
    import io

    from PIL import Image
    from transparent_background import Remover

    resize = "static" if mode == "fast" else "dynamic"
    remover = Remover(mode=mode, ckpt=checkpoint, device="cpu", resize=resize)

    def cut(photo: bytes) -> bytes:
        picture = Image.open(io.BytesIO(photo)).convert("RGB")
        out = io.BytesIO()
        remover.process(picture, type="rgba").save(out, "PNG")
        return out.getvalue()

    return cut


def load(peer: str, model: str):
    name, _, mode = peer.partition(":")
    if name == "rembg":
        return rembg(model)
    if name == "transparent-background":
        return transparent_background(mode, model)
    sys.exit(f"no peer {peer}: rembg, transparent-background:MODE")


def run(cut, photo: str, out: str) -> float:
    begun = time.monotonic()
    with open(photo, "rb") as file:
        data = file.read()
    data = cut(data)
    with open(out + ".part", "wb") as file:
        file.write(data)
    os.replace(out + ".part", out)
    return time.monotonic() - begun


def serve(cut, threads: int, answers) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            tasks = json.loads(line)["tasks"]
            seconds = list(pool.map(lambda task: run(cut, *task), tasks))
            print(json.dumps({"seconds": seconds}), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1, help="photos at a time")
    parser.add_argument("--once", nargs=2, metavar=("PHOTO", "OUT"))
    args = parser.parse_args()
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cut = load(args.peer, args.model)
    if args.once:
        run(cut, *args.once)
    else:
        serve(cut, args.threads, answers)


if __name__ == "__main__":
    main()
