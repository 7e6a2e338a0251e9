# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Error numbers as helpers return them: negative (include/uapi/asm-generic/errno*.h)."""

EPERM = -1
ENOENT = -2
E2BIG = -7
EAGAIN = -11
ENOMEM = -12
EACCES = -13
EFAULT = -14
EBUSY = -16
EEXIST = -17
ENODEV = -19
EINVAL = -22
ENOSPC = -28
ERANGE = -34
ENOSYS = -38
EPROTONOSUPPORT = -93
EOPNOTSUPP = -95
ENOTSUPP = -524
