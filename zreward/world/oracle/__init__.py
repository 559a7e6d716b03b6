"""The pixel oracle: classical image analysis that reads a picture of the world, without any neural network.

It judges; it never trains or selects anything.
"""

from zreward.world.oracle.verdict import Reading, read_picture

__all__ = ["Reading", "read_picture"]
