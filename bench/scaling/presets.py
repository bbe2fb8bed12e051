"""Stage times to start from. docs/scale.md says where each number comes from."""

from __future__ import annotations

from .photos import Mix, PerMegapixel, StageCosts

# Seconds in the network. The L4's are a range that nobody has measured: InSPyReNet base at 1024² is
# 782 GMAC and moves between 9 and 31 GB in fp16, as much as the runtime fuses (simulate.py roofline);
# on 121 TFLOP/s and 300 GB/s that is 35 ms at the very best and 167 ms at the worst.
L4 = {"l4-fast": 0.035, "l4-middle": 0.075, "l4-slow": 0.167}

# ISNet medium on two cores, measured (docs/benchmarks.md): ONNX Runtime's own kernels, and OpenVINO in
# bf16 on a CPU that has it.
CPU = {"cpu-2": 1.24, "openvino-bf16-2": 0.171}

NETWORKS = {**L4, **CPU}

# Core-seconds, measured on the CPU (docs/benchmarks.md): a 12 MP JPEG, step by step and doubled where
# both cores worked, and the samples of a quarter of a megapixel, with a line between them. A vCPU of
# Cloud Run is taken to be as fast as a core of that machine.
# Transfers are assumptions: 50 ms to the first byte, then 100 MB/s, of a JPEG of 0.3 MB a megapixel
# and a PNG of 0.63. They hold a place among the jobs, no core.
STAGES = StageCosts(
    download=PerMegapixel(0.05, 0.003),
    decode=PerMegapixel(0.008, 0.0055),
    compose=PerMegapixel(0.002, 0.0045),
    encode=PerMegapixel(0.002, 0.0086),
    upload=PerMegapixel(0.06, 0.0063),
    infer=L4["l4-middle"],
)

# An assumption about a shop's photos, megapixels by weight: web pictures, older and newer phones,
# now and then a camera. The mean is 8 MP.
SHOP = {1.0: 0.15, 3.0: 0.2, 8.0: 0.25, 12.0: 0.35, 24.0: 0.05}


def shop_mix(network: str) -> Mix:
    return Mix.of_sizes(STAGES, SHOP).with_infer(NETWORKS[network])
