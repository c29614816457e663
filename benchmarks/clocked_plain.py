"""`nnUNetv2_predict` with a clock around its network; the same arguments, and a line of JSON at the end."""

from __future__ import annotations

import json

from network_clock import Clock
from nnunetv2.inference.predict_from_raw_data import predict_entry_point

from nnunet_cascade._startup import register

if __name__ == "__main__":
    register()
    clock = Clock()
    clock.around_networks()
    predict_entry_point()
    print(json.dumps({"networks": clock.seconds("networks")}))
