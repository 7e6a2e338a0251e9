# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow kernels list|fetch|build|path|rm`. Arguments and output only."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.errors import Exit, UsageError
from harness.kernels import build_command, builds, catalogue, keys, prune, source, spec, store
from harness.kernels.image import Kernel, as_json
from harness.paths import size_bytes

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name


def add_parser(subparsers: "Subparsers") -> None:
    """Add `kernels` and its commands to a parser."""
    parser = subparsers.add_parser("kernels", help="kernels in the catalogue and in the cache")
    commands = parser.add_subparsers(dest="kernels_command", required=True, metavar="COMMAND")
    json_option = argparse.ArgumentParser(add_help=False)
    json_option.add_argument("--json", action="store_true", help="print JSON")

    def add(name: str, what: str, func: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=what, parents=[json_option])
        command.set_defaults(func=func)
        return command

    add("list", "the catalogue, and what of it is in the cache", _list)
    fetch = add("fetch", "bring kernels into the cache", _fetch)
    fetch.add_argument("names", nargs="*", metavar="NAME", help="name, pattern, or all")
    fetch.add_argument("--update", action="store_true", help="ask the mirror for newer releases")
    build_command.add_parser(commands, json_option)
    key = add("key", "what a CI should keep of the cache, and under which key", _key)
    key.add_argument("--kernel", action="append", default=[], metavar="K", help="runs on this one")
    key.add_argument("--github", action="store_true", help="print lines for $GITHUB_OUTPUT")
    build_command.add_order(key, required=False)
    path = add("path", "print where a cached kernel's image is", _path)
    path.add_argument("name", metavar="NAME")
    rm = add("rm", "remove kernels from the cache", _rm)
    rm.add_argument("names", nargs="*", metavar="NAME", help="of the catalogue, or build:NAME")
    rm.add_argument("--all", action="store_true", help="every kernel, and all archives for guests")
    rm.add_argument(
        "--sources", action="store_true", help="unpacked sources, and what was compiled from them"
    )
    rm.add_argument(
        "--unused",
        action="store_true",
        help="older releases and builds, sources and archives of long ago, and what belongs to"
        " trees and guest recipes that are gone",
    )


def run(args: argparse.Namespace) -> int:
    """Run the chosen command; the exit code."""
    return int(args.func(args))


def _row(entry: catalogue.Entry, default: bool, kernel: Kernel | None) -> dict[str, Any]:
    place = store.kernels_dir() / kernel.release if kernel is not None else None
    return {
        "name": entry.name,
        "default": default,
        "expects_throw": entry.expects_throw,
        "suites": list(entry.suites),
        "package": entry.image,
        "cached": kernel is not None,
        "release": kernel.release if kernel is not None else None,
        "size_bytes": size_bytes(place) if place is not None else None,
        "path": str(kernel.image) if kernel is not None else None,
    }


def _rows(known: catalogue.Catalogue) -> Iterator[dict[str, Any]]:
    kernels = list(store.cached(known))
    for entry in known.entries.values():
        mine: list[Kernel | None] = [each for each in kernels if each.name == entry.name]
        for kernel in mine or [None]:
            yield _row(entry, entry.name == known.default, kernel)


def _built_row(kernel: Kernel) -> dict[str, Any]:
    return {
        "name": f"build:{kernel.name}",
        "default": False,
        "expects_throw": kernel.expects_throw,
        "suites": [],
        "package": kernel.origin,
        "cached": True,
        "release": kernel.release,
        "size_bytes": size_bytes(kernel.image.parent),
        "path": str(kernel.image),
    }


def _list(args: argparse.Namespace) -> int:
    rows = [*_rows(catalogue.load()), *map(_built_row, builds.cached())]
    if args.json:
        print(json.dumps(rows, indent=1))
        return Exit.OK
    width = max(8, *(len(row["name"]) for row in rows))
    print(f"{'name':{width}} {'bpf_throw':10} {'release':26} {'MB':>5}  path")
    for row in rows:
        name = f"{row['name']}{' *' if row['default'] else ''}"
        throw = "expected" if row["expects_throw"] else "no"
        megabytes = row["size_bytes"] >> 20 if row["cached"] else "-"
        where = row["path"] or f"not fetched ({row['package']} of {', '.join(row['suites'])})"
        print(f"{name:{width}} {throw:10} {row['release'] or '-':26} {megabytes:>5}  {where}")
        if row["name"].startswith("build:"):
            print(f"{'':{width}} {row['package'].partition(' ')[2].strip('()')}")
    for origin in source.cached():
        print(f"source, unpacked: {origin}")
    return Exit.OK


def _names(specs: list[str], known: catalogue.Catalogue) -> list[str]:
    found: dict[str, None] = {}
    for word in specs:
        names = spec.names(word, known)
        if not names:
            raise UsageError(
                f"{word!r} is not a name of the catalogue", fix=f"one of {', '.join(known.entries)}"
            )
        found |= dict.fromkeys(names)
    return list(found)


def _print_kernels(kernels: list[Kernel], args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps([as_json(kernel) for kernel in kernels], indent=1))
    else:
        for kernel in kernels:
            print(kernel.image)
    return Exit.OK


def _fetch(args: argparse.Namespace) -> int:
    known = catalogue.load()
    names = _names(args.names or ["default"], known)
    kernels = [store.fetch(known, name, refresh=args.update) for name in names]
    return _print_kernels(kernels, args)


def _need_cached(known: catalogue.Catalogue, name: str) -> Kernel:
    kernel = store.newest_cached(known, name)
    if kernel is None:
        raise UsageError(f"kernel {name} is not in the cache", fix=f"bpfthrow kernels fetch {name}")
    return kernel


def _path(args: argparse.Namespace) -> int:
    known = catalogue.load()
    if args.name.startswith("build:"):
        return _print_kernels([builds.find(args.name.removeprefix("build:"))], args)
    return _print_kernels([_need_cached(known, name) for name in _names([args.name], known)], args)


def _key(args: argparse.Namespace) -> int:
    if not args.source and (args.patches or args.config or args.name):
        raise UsageError("kernels key: --patches, --config and --name need --source")
    if args.github and args.json:
        raise UsageError("kernels key: --github and --json are two forms of one answer: give one")
    order = build_command.order_of(args) if args.source else None
    found = keys.areas(args.kernel or ["default"], order)
    if args.json:
        print(json.dumps([asdict(each) for each in found], indent=1, default=str))
    elif args.github:
        print("\n".join(keys.github(found)))
    else:
        for area in found:
            print(f"{area.name:8} {area.key}", *(f"{'':8} {path}" for path in area.paths), sep="\n")
    return Exit.OK


def _rm(args: argparse.Namespace) -> int:
    known = catalogue.load()
    if bool(args.names) + args.all + args.unused + args.sources != 1:
        raise UsageError("kernels rm: which?", fix="NAME..., or --all, --sources or --unused")
    if args.unused:
        removed = prune.remove_unused(known)
    elif args.sources:
        removed = prune.remove_sources()
    elif args.all:
        removed = prune.remove_kernels(list(store.cached(known))) + prune.remove_archives()
        removed += prune.remove_builds(list(builds.cached()))
    else:
        removed = _rm_names(args.names, known)
    if args.json:
        print(json.dumps([asdict(each) for each in removed], indent=1))
    else:
        for each in removed:
            print(f"removed {each.what} ({each.size_bytes >> 20} MB)")
        if not removed:
            print("nothing to remove")
    return Exit.OK


def _rm_names(words: list[str], known: catalogue.Catalogue) -> list[prune.Removed]:
    built = [each.removeprefix("build:") for each in spec.expand(words) if each[:6] == "build:"]
    for name in built:
        builds.find(name)
    names = _names([word for word in words if not word.startswith("build:")], known)
    for name in names:
        _need_cached(known, name)
    fetched = [each for each in store.cached(known) if each.name in names]
    # of one name there may be several builds
    compiled = [each for each in builds.cached() if each.name in built]
    return prune.remove_kernels(fetched) + prune.remove_builds(compiled)
