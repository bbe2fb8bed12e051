"""Turns published checkpoints into the ONNX graphs that the worker runs.

`python -m models.export --help` lists what it can do; README.md beside this file says how it works.
"""

import os
import warnings

# The network's package brings one that asks a server for its own updates when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Its advice about its own window, and about the matting that was left out on purpose.
warnings.filterwarnings("ignore", message="Failed to (import flet|load pymatting)")
# Its backbone calls meshgrid the old way.
warnings.filterwarnings("ignore", message="torch.meshgrid")
