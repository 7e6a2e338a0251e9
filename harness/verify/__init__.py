# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The verifier model: predicts accept, reject or unknown per profile, without asking a kernel."""
