"""Start MONAI Label's server, also where the compiled operators of torchvision do not fit torch; it uses none of them.

python label_server.py start_server --app APP --studies STUDIES ...
"""

import runpy

import torch

try:
    import torchvision
except RuntimeError:
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401

runpy.run_module("monailabel.main", run_name="__main__", alter_sys=True)
