"""zreward: reward models that judge generated images as people do, as a distribution over rubric scores.

The public names are declared once, in `__init__.pyi`. Each is loaded when it is first used, so that `import zreward` is fast.
"""

import lazy_loader

from zreward.common import moved
from zreward.common.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
moved.install()
