"""Whether a graph of CUDA is being captured, as far as torch can tell: waiting for the card would spoil it.

What other libraries capture torch does not know, nor does it say what it captures on another thread.
"""

from __future__ import annotations

import sys
from typing import Any


def is_capturing() -> bool:
    """Whether torch captures on this thread. Torch is neither imported for that, nor made to begin CUDA."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    try:
        return cuda is not None and bool(cuda.is_initialized() and cuda.is_current_stream_capturing())
    except AttributeError:
        # It is only just being imported by another thread, or has no graphs yet.
        return False
    except Exception:
        # CUDA does not say while a stream is captured that the default one waits for; nor after an error of
        # the card, when nothing can be let go of either.
        return True
