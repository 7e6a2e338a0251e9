# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From a name to a kernel that can be booted, and the guest root that it boots into."""

from harness.kernels.image import Kernel
from harness.kernels.root import GuestRoot, ensure_root
from harness.kernels.spec import resolve, resolve_all

__all__ = ["GuestRoot", "Kernel", "ensure_root", "resolve", "resolve_all"]
