# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Conformance: the plugin for the public suite, vectors in its text format, and their runner.

Runs raw instructions on harness.sim's engines. Knows no kernel and no target.
"""
