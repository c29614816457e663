"""A U-Net on processors, its memory taken in large pages as `nnc-cascade-predict` does, and in ordinary ones.

Each round starts one process of either kind; the outputs must be equal to the last bit.

    python benchmarks/large_pages.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from nnunet_cascade.machine import memory_environment, processors


def measured(patch: int, passes: int) -> dict[str, Any]:
    """Run a network of fixed weights; gives seconds a pass, page faults a pass, peak memory, and a checksum."""
    import torch  # noqa: PLC0415 - the parent needs none
    from dynamic_network_architectures.architectures.unet import PlainConvUNet  # noqa: PLC0415

    torch.set_num_threads(processors())
    torch.manual_seed(0)
    norm = {"norm_op": torch.nn.InstanceNorm3d, "norm_op_kwargs": {"affine": True}, "nonlin": torch.nn.LeakyReLU}
    network = PlainConvUNet(1, 3, [16, 32, 64], torch.nn.Conv3d, 3, [1, 2, 2], 2, 2, 2, conv_bias=True, **norm).eval()
    image = torch.randn(1, 1, patch, patch, patch)
    with torch.inference_mode():
        output = network(image)
        before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(passes):
            network(image)
        seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds / passes,
        "faults": (after.ru_minflt - before.ru_minflt) / passes,
        "peak_mib": after.ru_maxrss / 1024,
        "sha256": hashlib.sha256(output.numpy().tobytes()).hexdigest(),
    }


def in_process(patch: int, passes: int, *, large: bool) -> dict[str, Any]:
    """Measure in a process of its own: the C library reads its settings when a process starts."""
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment |= {"OMP_WAIT_POLICY": "passive", "MALLOC_ARENA_MAX": "2"}
    if large:
        os.environ.pop("GLIBC_TUNABLES", None)
        environment |= memory_environment()
    command = [sys.executable, __file__, "--child", "--patch", str(patch), "--passes", str(passes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> int:
    """Print the table; gives 1 where the outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patch", type=int, default=96, help="voxels along an edge")
    parser.add_argument("--passes", type=int, default=6, help="of each process")
    parser.add_argument("--rounds", type=int, default=3, help="alternating; the medians are printed")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args.patch, args.passes)))
        return 0
    rounds = [[in_process(args.patch, args.passes, large=large) for large in (False, True)] for _ in range(args.rounds)]
    ordinary, large = zip(*rounds, strict=True)
    print(f"U-Net of 16, 32, 64 features, {args.patch}³ voxels, {processors()} threads, {args.rounds} rounds\n")
    print("| pages | seconds a pass | page faults a pass | peak memory, MiB |\n|---|---:|---:|---:|")
    middle = {
        name: {key: statistics.median(one[key] for one in found) for key in ("seconds", "faults", "peak_mib")}
        for name, found in (("ordinary", ordinary), ("large", large))
    }
    for name, found in middle.items():
        print(f"| {name} | {found['seconds']:.2f} | {found['faults']:.0f} | {found['peak_mib']:.0f} |")
    print(f"| ratio | {middle['large']['seconds'] / middle['ordinary']['seconds']:.2f} | | |")
    differ = len({one["sha256"] for pair in rounds for one in pair}) > 1
    print("the outputs differ" if differ else "the outputs are equal, bit by bit")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
