# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The instructions of one function in an ELF object, for the plugin's --elf.

What the public suite writes has one FUNC `main` and nothing else: no BTF, maps or relocations.
Objects that have them are harness.bpf.elf's business.
"""

from harness.bpf import rawelf
from harness.errors import ObjectError

_NAME = "standard input"


def main_of(data: bytes, function: str = "main") -> bytes:
    """Code of a function. Raises ObjectError for what is no such object."""
    raw = rawelf.parse(_NAME, data)
    found = next((s for s in raw.symbols if s.name == function and s.type == "STT_FUNC"), None)
    if found is None:
        raise ObjectError(f"{_NAME}: no function {function!r}")
    if not 0 < found.section < len(raw.sections):
        raise ObjectError(f"{_NAME}: function {function!r} is in no section")
    if raw.relocations.get(found.section):
        raise ObjectError(
            f"{_NAME}: function {function!r} has relocations", fix="bpfthrow sim OBJECT runs it"
        )
    code = raw.sections[found.section].data
    end = found.offset + found.size_bytes if found.size_bytes else len(code)
    if not found.offset < end <= len(code):
        raise ObjectError(f"{_NAME}: function {function!r} is outside its section")
    return code[found.offset : end]
