"""Declares the operators of torchvision that its Python half names when it is imported.

A build for CUDA beside a torch for CPU cannot load the library that does; nothing here calls them. A `.pth`
file imports this when Python starts; it waits until torchvision is asked for.
"""

import sys
from importlib.abc import MetaPathFinder

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class Declaring(MetaPathFinder):
    """Finds nothing: it is asked before torchvision is imported, and then goes."""

    library = None  # kept, or the declarations go with it

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            from torch.library import Library

            Declaring.library = Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                Declaring.library.define(operator + BOXES)


sys.meta_path.insert(0, Declaring())
