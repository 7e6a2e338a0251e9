# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps of the simulated kernel, one module for each family; harness.sim.maps lists them."""
