"""Where the processes of one training listen for each other."""

import os
import sys

GLOO = "GLOO_SOCKET_IFNAME"  # the network that torch's gloo listens on; by default that of the machine's own name
LOOPBACK = "lo"


def listen(nodes: int) -> None:
    """Have gloo's processes listen on this machine alone where all are on it, unless the user chose a network: they
    believe whoever connects.

    Args:
        nodes: machines of the training.
    """
    if nodes > 1:
        if os.environ.get(GLOO) == LOOPBACK:  # of an earlier job in this process
            del os.environ[GLOO]
    elif sys.platform == "linux":
        os.environ.setdefault(GLOO, LOOPBACK)
