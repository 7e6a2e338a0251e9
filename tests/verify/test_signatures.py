# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arguments and return values of global functions and of the exception callback.

Words and errnos: exceptions.md 2.4 of the reference, btf_prepare_func_args() of 6.12 and 7.3.
"""

import pytest

from harness.series import SERIES
from harness.verify import signatures
from harness.verify.prediction import NotModelled, Rejection
from harness.verify.signatures import ARENA, CTX, DYNPTR, MEM, SCALAR, TRUSTED, Argument

OLD, NEW = ("6.12", "6.18"), ("7.3",)
NOT_SCALAR = "Global function f() doesn't return scalar. Only those are supported."
NOT_VOID = "Global function f() return value not void or scalar. Only those are supported."
ONE_INTEGER = "exception cb only supports single integer argument"
TAG = '#define __tag(name) __attribute__((btf_decl_tag("arg:" #name)))\nstruct away;\n'
USE = """
SEC("tc") int entry(struct __sk_buff *skb) {{ {use}; return 0; }}
"""
CALLBACK = """
SEC("tc") __exception_cb(f) int entry(struct __sk_buff *skb) {{ bpf_throw(1); return 0; }}
"""


def function_of(subject, name="f"):
    return next(f for f in subject.program.functions if f.name == name)


def said(work):
    try:
        work()
    except Rejection as error:
        return error.message, error.errno
    return None


@pytest.mark.parametrize(
    ("declared", "series", "expected"),
    [
        ("int f(__u64 c)", SERIES, None),
        ("int f(int c)", SERIES, None),
        ("int f(signed char c)", SERIES, None),
        ("__u64 f(__u64 c)", SERIES, None),
        ("_Bool f(__u64 c)", SERIES, None),
        ("enum e { A, B }; int f(enum e c)", SERIES, None),
        ("typedef const __u64 cookie; int f(cookie c)", SERIES, None),
        ("int f(void)", SERIES, (ONE_INTEGER, 22)),
        ("int f(__u64 c, __u64 d)", SERIES, (ONE_INTEGER, 22)),
        ("int f(struct __sk_buff *c)", SERIES, (ONE_INTEGER, 22)),
        ("int f(int *c)", SERIES, (ONE_INTEGER, 22)),
        ("void *f(__u64 c)", OLD, (NOT_SCALAR, 22)),
        ("void *f(__u64 c)", NEW, (NOT_VOID, 95)),
        ("void *f(int *c)", NEW, (NOT_VOID, 95)),
        ("void f(__u64 c)", OLD, (NOT_SCALAR, 22)),
        ("void f(__u64 c)", NEW, ("exception cb cannot return void", 22)),
    ],
)
def test_callback(subject_of_c, declared, series, expected):
    value = "" if "void f" in declared else "return 0;"
    text = f"{declared} {{ {value} }}" + CALLBACK.format()
    for name in series:
        subject = subject_of_c(text, name)
        assert said(lambda subject=subject: signatures.check_callback(subject)) == expected


def test_program_without_callback_has_nothing_to_check(subject_of_c):
    signatures.check_callback(subject_of_c(USE.format(use="")))


def arguments(subject_of_c, declared, use, series="7.3"):
    text = TAG + f"__noinline int {declared} {{ barrier(); return 1; }}" + USE.format(use=use)
    subject = subject_of_c(text, series)
    found = signatures.signature(subject, function_of(subject))
    return found and found.arguments


@pytest.mark.parametrize(
    ("declared", "use", "expected"),
    [
        ("f(int a, __u64 b)", "f(1, 2)", (Argument(SCALAR), Argument(SCALAR))),
        ("f(struct __sk_buff *skb)", "f(skb)", (Argument(CTX),)),
        ("f(void *c __tag(ctx))", "f(skb)", (Argument(CTX),)),
        ("f(int *p)", "int i; f(&i)", (Argument(MEM, 4, nullable=True),)),
        ("f(const char (*p)[9])", "char c[9]; f(&c)", (Argument(MEM, 9, nullable=True),)),
        ("f(int *p __tag(nonnull))", "int i; f(&i)", (Argument(MEM, 4),)),
        ("f(struct bpf_dynptr *p)", "f(0)", (Argument(DYNPTR),)),
        ("f(void *p __tag(arena))", "f(0)", (Argument(ARENA),)),
    ],
)
def test_global_function(subject_of_c, declared, use, expected):
    assert arguments(subject_of_c, declared, use) == expected


def test_trusted_pointer_keeps_its_type(subject_of_c):
    declared = "f(struct task_struct *t __tag(trusted) __tag(nullable))"
    text = (
        TAG
        + "struct task_struct { int x; };\n"
        + f"__noinline int {declared} {{ barrier(); return 1; }}"
    )
    subject = subject_of_c(text + USE.format(use="f(0)"))
    (found,) = signatures.signature(subject, function_of(subject)).arguments
    assert (found.kind, found.nullable) == (TRUSTED, True)
    assert subject.obj.btf.type(found.type_id).name == "task_struct"


@pytest.mark.parametrize(
    ("declared", "use", "expected"),
    [
        ("f(void *p)", "f(skb)",
         ("arg#0 reference type('UNKNOWN ') size cannot be determined: {{-?[0-9]+}}", 22)),
        ("f(struct away *p)", "f(0)",
         ("arg#0 reference type('FWD away') size cannot be determined: {{-?[0-9]+}}", 22)),
        ("f(int i __tag(nonnull))", "f(1)",
         ("arg#0 has pointer tag, but is not a pointer type", 22)),
        ("f(int *p __tag(odd))", "int i; f(&i)",
         ("arg#0 has unsupported set of tags", 95)),
    ],
)  # fmt: skip
def test_global_function_that_no_verifier_takes(subject_of_c, declared, use, expected):
    text = TAG + f"__noinline int {declared} {{ barrier(); return 1; }}" + USE.format(use=use)
    subject = subject_of_c(text)
    assert said(lambda: signatures.signature(subject, function_of(subject))) == expected


def test_static_function_may_be_anything(subject_of_c):
    text = "static __noinline void *f(void *p) { barrier_var(p); return p; }"
    subject = subject_of_c(text + USE.format(use="return f(skb) == 0"))
    assert signatures.signature(subject, function_of(subject)) is None


def test_void_functions_since_7_3(subject_of_c):
    text = "int x; __noinline void f(int a) { x = a; }" + USE.format(use="f(1)")
    old, new = subject_of_c(text, "6.18"), subject_of_c(text, "7.3")
    assert said(lambda: signatures.signature(old, function_of(old))) == (NOT_SCALAR, 22)
    found = signatures.signature(new, function_of(new))
    assert found.returns_void
    assert found.arguments == (Argument(SCALAR),)


def test_replacement_depends_on_what_it_replaces(subject_of_c):
    text = '__noinline int f(struct __sk_buff *p) { return p->len; }\nSEC("freplace/x") '
    subject = subject_of_c(text + "int entry(struct __sk_buff *skb) { return f(skb); }")
    with pytest.raises(NotModelled, match="replaced"):
        signatures.signature(subject, function_of(subject))
