# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A kernel source and its compilers, as far as anybody looks into them: played by scripts."""

import sys

FILE = "one\ntwo\nthree\nfour\nfive\n"
FIRST = """\
--- a/kernel/bpf/x.c
+++ b/kernel/bpf/x.c
@@ -1,4 +1,4 @@
 one
-two
+TWO
 three
 four
"""
SECOND = """\
--- a/kernel/bpf/x.c
+++ b/kernel/bpf/x.c
@@ -1,4 +1,5 @@
 one
 TWO
 three
+and a half
 four
--- /dev/null
+++ b/kernel/bpf/new.c
@@ -0,0 +1 @@
+new
"""
REMOVAL = """\
--- a/kernel/bpf/x.c
+++ /dev/null
@@ -1,5 +0,0 @@
-one
-two
-three
-four
-five
"""


MAKE = """#!{python}
import os, signal, sys, time
words = sys.argv[1:]
if "mrproper" in words:
    sys.exit()
out = next(w[2:] for w in words if w.startswith("O="))
tree = words[words.index("-C") + 1]
if "olddefconfig" in words:
    sys.exit()
if "allnoconfig" in words:
    open(out + "/.config", "w").write("")
    sys.exit()
code = open(tree + "/kernel/bpf/x.c").read()
print("  CC      kernel/bpf/x.o", flush=True)
if "error" in code:
    print("kernel/bpf/x.c:2:1: error: unknown type name 'two'")
    print("make: *** [Makefile:1: vmlinux] Error 2")
    sys.exit(2)
if "hang" in code or "stubborn" in code:
    if "stubborn" in code:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(out + "/hangs", "w").write(str(os.getpid()))
    time.sleep(60 if "hang" in code else 3)
    sys.exit(1)
if "slow" in code:
    open(out + "/hangs", "w").write(str(os.getpid()))
    time.sleep(3)
release = "7.3.4" + next(w for w in words if w.startswith("LOCALVERSION=")).partition("=")[2]
os.makedirs(out + "/arch/x86/boot", exist_ok=True)
head = bytearray(0x400)
head[0x1fe:0x200], head[0x202:0x206] = b"\\x55\\xaa", b"HdrS"
head[0x20e:0x210] = (0x100).to_bytes(2, "little")
head[0x300:0x300 + len(release) + 1] = release.encode() + b"\\0"
open(out + "/arch/x86/boot/bzImage", "wb").write(bytes(head))
for name in ("System.map", "vmlinux"):
    open(out + "/" + name, "w").write(name)
"""
CONFIGURE = """#!/bin/sh
for word in "$@"; do case $word in O=*) out=${word#O=} ;; esac; done
while [ $# -gt 0 ]; do [ "$1" = --custom ] && cat "$2" >> "$out/.config"; shift; done
"""


def write_tree(place):
    """A source: two Makefiles, one file of C."""
    (place / "kernel/bpf").mkdir(parents=True)
    for name in ("Makefile", "Kbuild"):
        (place / name).write_text("# nothing\nmrproper:\n")
    (place / "kernel/bpf/x.c").write_text(FILE)
    return place


def write_programs(place):
    """make, objcopy, virtme-configkernel and the rest, to be put before the real ones in PATH."""
    place.mkdir()
    scripts = {
        "make": MAKE.replace("{python}", sys.executable),
        "virtme-configkernel": CONFIGURE,
        "objcopy": '#!/bin/sh\nfor last; do :; done; echo btf > "$last"\n',
        **{
            name: f"#!/bin/sh\necho {name} 1.0\n"
            for name in ("gcc", "pahole", "flex", "bison", "bc")
        },
    }
    for name, text in scripts.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    return place
