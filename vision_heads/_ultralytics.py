"""The one door to ultralytics: its blocks and losses, without its side effects.

Importing ultralytics writes a settings file and probes the network unless it is told not to
before its first import. That happens here and nowhere else.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_SETTINGS = tempfile.mkdtemp(prefix="vh-ultralytics-")
atexit.register(shutil.rmtree, _SETTINGS, ignore_errors=True)
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_CONFIG_DIR"] = _SETTINGS
os.environ.setdefault("YOLO_VERBOSE", "false")

from ultralytics.nn.modules.block import SPPF, C2f  # noqa: E402
from ultralytics.nn.modules.conv import Conv, DWConv  # noqa: E402
from ultralytics.utils.loss import DFLoss  # noqa: E402
from ultralytics.utils.metrics import bbox_iou  # noqa: E402

__all__ = ["SPPF", "C2f", "Conv", "DFLoss", "DWConv", "bbox_iou"]
