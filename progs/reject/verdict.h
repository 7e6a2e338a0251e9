/* SPDX-License-Identifier: GPL-2.0-only */
/* How programs of this directory say that they are refused, or that they just are not. */
#ifndef BPFTHROW_VERDICT_H
#define BPFTHROW_VERDICT_H

#include "exceptions.h"

/* Loaded alone: what is refused takes nothing along. */
#define REFUSED(number, text) \
	SEC("?tc") __failure  \
	__errno(number)       \
	__msg(text)

/*
 * The near miss: as like the refused one as can be, and it must load and run. Those of a file are
 * loaded together, but never with what is refused.
 */
#define NEAR_MISS(value)     \
	SEC("?tc") __success \
	__retval(value)      \
	__hook("test_run")

/* Refused since 7.3; before, it loads and what is held stays so: never run. */
#define REFUSED_BY_7_3(number, text) \
	REFUSED(number, text)        \
	__hook("load")               \
	__on("6.12,6.18", "success")

#endif
