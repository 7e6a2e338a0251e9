# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Tags of the kernel's own BPF selftests -> what they claim, as their test_loader means it.

Source: tools/testing/selftests/bpf/{progs/bpf_misc.h,test_loader.c}, Linux 6.12 to 7.3. The same
words mean more there than in harness.tags: a program is loaded alone, privileged, and run only if
it has a value to return. What is not understood makes the case unsupported, by name.
"""

import errno
import re
from collections.abc import Callable, Iterable, Sequence

from harness.errors import BpfthrowError, ObjectError
from harness.model import Input, Verdict
from harness.tags import OURS, Claims, parse_integer, parse_tags

# 7.3: "comment:N:KEY=VALUE"; 6.12: "comment:KEY=VALUE", or "comment:KEY=N=VALUE" where order counts
_TAG = re.compile(r"comment:(?:(\d+):)?((?:test_|load_)\w+)(?:=(.*))?", re.DOTALL)
_NUMBERED = re.compile(r"(\d+)=(.*)", re.DOTALL)
_IN_ORDER = {"test_expect_msg", "test_expect_not_msg"}
_UNPRIVILEGED = "_unpriv"
# what the loader gives to a program that takes a packet: TEST_DATA_LEN zeros
PACKET_BYTES = 64
# stands for any pointer
_POINTER_VALUE = 0xBADCAFE
# include/uapi/linux/bpf.h
_FLAGS = {
    "BPF_F_STRICT_ALIGNMENT": 1 << 0,
    "BPF_F_ANY_ALIGNMENT": 1 << 1,
    "BPF_F_TEST_RND_HI32": 1 << 2,
    "BPF_F_TEST_STATE_FREQ": 1 << 3,
    "BPF_F_SLEEPABLE": 1 << 4,
    "BPF_F_XDP_HAS_FRAGS": 1 << 5,
    "BPF_F_TEST_REG_INVARIANTS": 1 << 7,
}
_ARCHITECTURE = "X86_64"
_NAMES = {"_INT_MIN": -(1 << 31), "POINTER_VALUE": _POINTER_VALUE, "TEST_DATA_LEN": PACKET_BYTES}


def is_style(tags: Iterable[str]) -> bool:
    """Whether the programs of an object with these tags are written for the kernel's loader."""
    return any(_TAG.fullmatch(tag) for tag in tags)


def parse_kernel_tags(tags: Sequence[str], where: str) -> Claims:
    """Read the tags of one program, ours among them included.

    `where` names the object and the program for errors. Raises ObjectError naming the tag.
    """
    claims = parse_tags(tuple(tag for tag in tags if tag.startswith(OURS)), where)
    claims.alone = True
    privileged = False
    for key, value in _in_order(tags):
        privileged |= key in _PRIVILEGED
        unchecked = _UNCHECKED.get(key, _ALL_RIGHTS if key.endswith(_UNPRIVILEGED) else "")
        if unchecked:
            claims.left_out.append(f"{key}: {unchecked}")
            continue
        put = _KEYS.get(key)
        if put is None:
            claims.unsupported.append(f"tag {key} is not understood")
            continue
        try:
            put(claims, value)
        except (BpfthrowError, ValueError) as error:
            raise ObjectError(f"{where}: tag {key}={value}: {error}") from None
    claims.left_out = list(dict.fromkeys(claims.left_out))
    if not privileged and any(why.endswith(_ALL_RIGHTS) for why in claims.left_out):
        claims.unsupported.append("it is to be loaded without privileges only")
    _settle(claims)
    return claims


def _in_order(tags: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for tag in tags:
        match = _TAG.fullmatch(tag)
        if match is None:
            continue
        number, key, value = int(match[1] or 0), match[2], match[3] or ""
        old = _NUMBERED.fullmatch(value) if match[1] is None and key in _IN_ORDER else None
        if old is not None:
            number, value = int(old[1]), old[2]
        found.append((number, key, value))
    return [(key, value) for _, key, value in sorted(found, key=lambda row: row[0])]


def _settle(claims: Claims) -> None:
    """What follows from all tags together."""
    # without a verdict the loader wants success
    claims.verdict = claims.verdict or Verdict.RAN
    if claims.verdict is Verdict.REJECTED:
        claims.retval = None
    if claims.retval is not None:
        claims.hooks = claims.hooks or ["test_run"]
    elif not claims.retval_of and not claims.globals:
        claims.hooks = claims.hooks or ["load"]
    if claims.architectures and _ARCHITECTURE not in claims.architectures:
        claims.unsupported.append(f"for {', '.join(claims.architectures)} only")


def is_auxiliary(tags: Iterable[str]) -> bool:
    """Whether a program is loaded beside every other of its object."""
    found = (_TAG.fullmatch(tag) for tag in tags)
    return any(match is not None and match[2] == "test_auxiliary" for match in found)


def packet() -> Input:
    """What a program that takes a packet is run with."""
    return Input(packet=bytes(PACKET_BYTES))


# ---- one function a key ---------------------------------------------------------------------


def _put_verdict(verdict: Verdict) -> Callable[[Claims, str], None]:
    def put(claims: Claims, _: str) -> None:
        claims.verdict = verdict  # the loader takes the last one, too

    return put


def _put_message(claims: Claims, value: str) -> None:
    claims.messages.append(value)


def _put_unwanted(claims: Claims, value: str) -> None:
    claims.unwanted.append((len(claims.messages), value))


def _put_retval(claims: Claims, value: str) -> None:
    number = _integer(value)
    if number == _POINTER_VALUE:  # whatever comes back will do
        claims.hooks = ["test_run"]
        return
    claims.retval = number & 0xFFFFFFFF


def _integer(text: str) -> int:
    plain = text.strip()
    while plain.startswith("(") and plain.endswith(")"):
        plain = plain[1:-1].strip()
    if plain in _NAMES:
        return _NAMES[plain]
    sign, name = (-1, plain[1:]) if plain.startswith("-") else (1, plain)
    code = getattr(errno, name, None)
    return sign * code if isinstance(code, int) else parse_integer(plain)


def _put_log_level(claims: Claims, value: str) -> None:
    claims.log_level = parse_integer(value)
    if not 0 <= claims.log_level <= 7:
        raise ValueError("a log level is between 0 and 7")


def _put_flag(claims: Claims, value: str) -> None:
    name = value.removeprefix("!")
    flag = _FLAGS.get(name)
    flag = parse_integer(name) if flag is None else flag
    claims.flags = claims.flags & ~flag if value.startswith("!") else claims.flags | flag


def _put_mode(claims: Claims, value: str) -> None:
    modes = {"jited": "jit", "no_jited": "no-jit"}
    if value not in modes:
        raise ValueError("should be jited or no_jited")
    claims.needs.append(modes[value])


def _put_auxiliary(claims: Claims, _: str) -> None:
    claims.is_target = True


def _put_description(claims: Claims, value: str) -> None:
    claims.description = value


_KEYS: dict[str, Callable[[Claims, str], None]] = {
    "test_expect_success": _put_verdict(Verdict.RAN),
    "test_expect_failure": _put_verdict(Verdict.REJECTED),
    "test_expect_msg": _put_message,
    "test_expect_not_msg": _put_unwanted,
    "test_retval": _put_retval,
    "test_log_level": _put_log_level,
    "test_prog_flags": _put_flag,
    "test_arch": lambda claims, value: claims.architectures.append(value),
    "test_description": _put_description,
    "test_auxiliary": _put_auxiliary,
    "load_mode": _put_mode,
}
# what is not looked at: the load and the run are tried without it
_UNCHECKED = {
    "test_expect_xlated": "the instructions that the verifier made are not looked at",
    "test_jited": "the machine code is not looked at",
    "test_expect_stderr": "what a program's streams hold is not looked at",
    "test_expect_stdout": "what a program's streams hold is not looked at",
}
_ALL_RIGHTS = "programs are loaded with all privileges"
# keys that imply a privileged load, as in the loader
_PRIVILEGED = {
    "test_expect_success", "test_expect_failure", "test_expect_msg", "test_expect_not_msg",
    "test_retval", "test_auxiliary", "test_expect_xlated", "test_jited",
}  # fmt: skip
